"""Bound: the most a request may take, known before it is sent; and what it did take, known after."""

import math

from modelport.domain.amounts import Amounts
from modelport.domain.price import Rates
from modelport.gateway.scan import Scan
from modelport.gateway.surface import UNCOUNTED, Surface
from modelport.gateway.usage import Usage
from modelport.store.snapshot import Routed

TEMPLATE_TOKENS, MESSAGE_TOKENS = 512, 16
"""What a chat template may add: a system prompt of its own, and marks around each message. Llama 3.1's is the longest
we know, some 30 tokens without tools and 15 around each."""
MEDIA_TOKENS = 16_384
"""One image, clip or recording at most, where the service's context is not known: Qwen2-VL's default bound."""
UNKNOWN_CONTEXT = 131_072
"""Where no plan says how much a service takes at once."""
LONGEST_S = 3600.0
"""How long a request without a deadline may go on."""
PICTURES = frozenset(("classify", "detect"))
"""Tasks that are counted by the pictures looked at: they read and write no tokens."""
LATE_MS = 500
"""How long after its deadline a request may be cut off (watch.py)."""
BYTES_A_TOKEN = 4
"""Of an answer in English, for estimates; a bound counts a token a byte, since no tokenizer makes more."""
MOST_NANO = 10**16
"""No request costs more: ten million. Beyond, sums of them would leave the store's columns."""
LAST_EVENTS = 2
"""What comes after the usage of a stream that ended well: `message_stop`, `[DONE]`."""


def worst(found: Scan, surface: Surface, service: Routed, media: int, deadline_s: float) -> Amounts:
    """An upper bound of what a request takes of its service, its price included.

    Input: a token a byte, the template's share, and media by table; never more than the context, which the engine
    refuses to pass. Output: the cap, or else the context, for every choice of every prompt.
    """
    context = service.context_tokens or UNKNOWN_CONTEXT
    made = Amounts(characters=found.characters, images=found.images, audio_ms=found.audio_ms)
    if service.task in PICTURES:
        made.images = media
    elif surface.output != "media" and surface.path not in UNCOUNTED:
        messages = found.messages or 0
        bytes_bound = len(found.body) + TEMPLATE_TOKENS + MESSAGE_TOKENS * messages + MEDIA_TOKENS * media
        made.input_tokens = min(bytes_bound, context * found.prompts) if surface.output == "tokens" else bytes_bound
    if surface.output == "tokens" and service.task not in PICTURES:
        each = context if found.max_tokens is None else max(1, min(found.max_tokens, context))  # 0 makes one
        made.output_tokens = each * found.choices * found.prompts
    made.cached_tokens = made.input_tokens
    made.reasoning_tokens = made.output_tokens
    made.gpu_ms = math.ceil((deadline_s or LONGEST_S) * 1000 + LATE_MS) * max(1, service.gpus)
    made.money_nano = min(service.rates.dearest(made), MOST_NANO)
    return made


def used(
    bound: Amounts,
    said: Usage | None,
    price: Rates,
    gpu_s: float,
    *,
    answer_bytes: int,
    events: int,
    later: int,
    whole: bool,
    answers: int,
    prompts: int,
) -> tuple[Amounts, bool]:
    """What a request that reached its engine took, and whether that is an estimate.

    The engine's own word is taken as it is, zero too. Without it, a stream counts a token an event and any other
    answer one for BYTES_A_TOKEN bytes; input then counts one for as many bytes of the body. A stream that went on
    after the engine's last word counts its `later` events too: Anthropic's says one output token when it begins,
    and the rest when it ends. Where that word was of one of several `answers`, the others are taken to be as long.
    An answer that was not waited for (`whole` is False and nothing of it was seen) counts as its bound.
    """
    made = Amounts(characters=bound.characters, images=bound.images, audio_ms=bound.audio_ms)
    made.gpu_ms = math.ceil(gpu_s * 1000)
    estimated = said is None and (bound.input_tokens > 0 or bound.audio_ms > 0)
    seen = min(events or math.ceil(answer_bytes / BYTES_A_TOKEN), bound.output_tokens)
    if said is not None:
        made.input_tokens, made.output_tokens, made.cached_tokens, made.reasoning_tokens = said.counts()
        if said.audio_ms is not None:
            made.audio_ms = said.audio_ms
        elif not said.tells_output and seen and said.total_tokens is None:
            made.output_tokens, estimated = seen, True
        elif answers > 1:
            made.input_tokens = min(said.input * prompts, max(said.input, bound.input_tokens))
            made.output_tokens = min(max(said.output * answers, events), max(said.output, bound.output_tokens))
            estimated = True
        elif later > (LAST_EVENTS if whole else 0):
            made.output_tokens, estimated = said.output + later, True
    elif not whole and not events:
        made.input_tokens, made.output_tokens = bound.input_tokens, bound.output_tokens
    else:
        made.input_tokens = math.ceil(bound.input_tokens / BYTES_A_TOKEN)
        made.output_tokens = seen
    made.money_nano = min(price.nano(made), MOST_NANO)
    return made, estimated
