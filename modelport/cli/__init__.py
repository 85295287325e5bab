"""The command line: parse, call a Verb, show."""
