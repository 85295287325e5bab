"""Redact: text fit to be kept. What looks like a secret goes, always; names, addresses and the like stay, since the
key's owner asked for the text."""

import re
from collections.abc import Callable

MARK = "[redacted]"
_NAMES = (
    r"pass(?:word|wd|phrase)|secret|api[_-]?key|(?:access|private|client|auth|session)[_-]?(?:key|token|secret)|token"
)
_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", MARK),
    (r"\bmp-[A-Za-z0-9_-]{16,}", MARK),  # ours
    (r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}", MARK),  # OpenAI, Anthropic, Stripe and those who write keys like them
    (r"\b(?:hf|npm|dop_v1|glpat|nvapi|gsk|r8|xai|pypi|tvly|lsv2_[a-z]{2})[-_][A-Za-z0-9_-]{16,}", MARK),
    (r"\b(?:gh[pousr]|github_pat)_[A-Za-z0-9_]{20,}", MARK),
    (r"\bxox[a-z]-[A-Za-z0-9-]{10,}", MARK),  # Slack
    (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", MARK),  # AWS
    (r"\b(?:AIza[0-9A-Za-z_-]{30,}|ya29\.[0-9A-Za-z_-]{20,})", MARK),  # Google
    (r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?", MARK),  # JWT
    (r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{12,}", rf"\1\2{MARK}"),
    (r"(://[^\s/:@\"'\\]{1,128}:)[^\s/@\"'\\]{1,256}(?=@)", rf"\1{MARK}"),  # a URL's password
    (rf"(?i)((?<![a-z])(?:{_NAMES})\\?[\"']?\s*[:=]\s*\\?[\"']?)[^\s\"'\\,;&<>{{}}\[\]]{{6,}}", rf"\1{MARK}"),
)
_SECRETS: tuple[tuple[Callable[[str, str], str], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL).sub, replacement) for pattern, replacement in _PATTERNS
)
_ESCAPED = re.compile(r"\\u00([2-7][0-9a-fA-F])")
_KEEP_ESCAPED = frozenset('"\\')
_LAST_WORD = re.compile(r"[A-Za-z0-9._~+/=@:-]{1,512}\Z")


def redacted(text: str) -> str:
    """Without what looks like an API key, a token, a password or a private key. Letters that JSON has as `\\u0073` are
    spelled out first."""
    if "\\u00" in text:
        text = _ESCAPED.sub(_spelled, text)
    for sub, replacement in _SECRETS:
        text = sub(replacement, text)
    return text


def without_last_word(text: str) -> str:
    """What a cut may have left of a secret is too short to be known as one."""
    return _LAST_WORD.sub("", text)


def _spelled(found: re.Match[str]) -> str:
    letter = chr(int(found[1], 16))
    return found[0] if letter in _KEEP_ESCAPED else letter
