"""Token: whether the Hub knows who we are. Asked only where a model of the Hub is wanted."""

import os

import httpx

from modelport.catalog.hub import DEFAULT_ENDPOINT, token
from modelport.errors import FORBIDDEN, NOT_READY, ModelportError

TIMEOUT_S = 10.0


def whoami() -> str:
    """Whose token it is, in words; that there is none is no error. Raises ModelportError where it is not valid."""
    found = token()
    if not found:
        return "none (HF_TOKEN is not set): public models only"
    endpoint = (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return "set; not checked, because HF_HUB_OFFLINE is"
    try:
        answer = httpx.get(f"{endpoint}/api/whoami-v2", headers={"authorization": f"Bearer {found}"}, timeout=TIMEOUT_S)
    except httpx.HTTPError:
        raise ModelportError(f"The Hub at {endpoint} cannot be reached to check the token.", NOT_READY) from None
    if answer.status_code in (401, 403):
        raise ModelportError("HF_TOKEN is not valid: make a new one in the Hub's settings.", FORBIDDEN)
    if answer.status_code != 200:
        return f"set; the Hub answered {answer.status_code} when it was checked"
    try:
        name = str(answer.json()["name"])
    except (ValueError, KeyError, TypeError):
        name = "an unnamed user"
    return f"valid, of {name[:60]}"
