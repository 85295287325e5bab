"""Language: language, vision-language and embedding models through torch and transformers. Only `options` and `source`
are read before a load; everything else imports torch, which takes seconds.
"""
