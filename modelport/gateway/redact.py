"""Redact: text fit to be kept. What looks like a secret goes, always; names, addresses and the like stay, since the
key's owner asked for the text."""

import re
from collections.abc import Callable

MARK = "[redacted]"
LONGEST_SECRET = 4096
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf]))"
"""Of a word: also after a line break as JSON writes it."""
_NAMES = (
    r"pass(?:word|wd|phrase)|secret|api[_-]?key|(?:access|private|client|auth|session)[_-]?(?:key|token|secret)|token"
)
_KEYS = (
    r"mp-[A-Za-z0-9_-]{16,}",  # ours
    r"(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}",  # OpenAI, Anthropic, Stripe and those who write keys like them
    r"(?:hf|npm|dop_v1|glpat|nvapi|gsk|r8|xai|pypi|tvly)[-_][A-Za-z0-9_-]{16,}",
    r"(?:gh[pousr]|github_pat)_[A-Za-z0-9_]{20,}",
    r"xox[a-z]-[A-Za-z0-9-]{10,}",  # Slack
    r"(?:AKIA|ASIA)[0-9A-Z]{16}\b",  # AWS
    r"(?:AIza[0-9A-Za-z_-]{30,}|ya29\.[0-9A-Za-z_-]{20,})",  # Google
    r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",  # JWT
)
_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", MARK),
    (f"{_START}(?:{'|'.join(_KEYS)})", MARK),
    (rf"(?i){_START}(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{{12,}}", rf"\1\2{MARK}"),
    (r"(://[^\s/:@\"'\\]{1,128}:)[^\s/@\"'\\]{1,256}(?=@)", rf"\1{MARK}"),  # a URL's password
    (rf"(?i)({_START}(?:{_NAMES})\\?[\"']?\s*[:=]\s*\\?[\"']?)[^\s\"'\\,;&<>{{}}\[\]]{{6,}}", rf"\1{MARK}"),
)
_SECRETS: tuple[tuple[Callable[[str, str], str], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL).sub, replacement) for pattern, replacement in _PATTERNS
)
_ESCAPED = re.compile(r"\\u00([2-7][0-9a-fA-F])")
_KEEP_ESCAPED = frozenset('"\\')
_LAST_WORD = re.compile(r"[A-Za-z0-9._~+/=@:\\-]*\Z")


def redacted(text: str, *, cut: bool) -> str:
    """Without what looks like an API key, a token, a password or a private key. Letters that JSON has as `\\u0073` are
    spelled out first. Of text that was `cut` the last word goes: what is left of a secret there is too short to be
    known as one."""
    if "\\u00" in text:
        text = _ESCAPED.sub(_spelled, text)
    if cut:
        word = _LAST_WORD.search(text, len(text) - LONGEST_SECRET if len(text) > LONGEST_SECRET else 0)
        text = text[: word.start()] if word else text
    for sub, replacement in _SECRETS:
        text = sub(replacement, text)
    return text


def _spelled(found: re.Match[str]) -> str:
    letter = chr(int(found[1], 16))
    return found[0] if letter in _KEEP_ESCAPED else letter
