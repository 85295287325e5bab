"""Refusals of the Hub: which sentence and which kind of error a status and an X-Error-Code mean.

The codes are those that hf_raise_for_status in huggingface_hub/utils/_http.py tells apart.
"""

import re
from collections.abc import Mapping

from modelport.catalog.hub_name import DEFAULT_REVISION, HubName
from modelport.catalog.repository import Unreachable
from modelport.errors import BUSY, FORBIDDEN, MODEL_NOT_FOUND, Kind, ModelportError

RETRY_S = 60.0
"""After "too many requests" without a Retry-After: the Hub counts in windows of five minutes, of which some is over."""


def refusal(hub: str, name: HubName, file: str, status: int, headers: Mapping[str, str], token: bool) -> ModelportError:
    """The error for an answer of 400 and above about `name` or a `file` of it; Unreachable where it may pass by itself.

    `hub` is the endpoint as messages name it, `token` whether one was sent. `headers` are looked up in lower case.
    """
    code, page = headers.get("x-error-code", ""), f"{hub}/{name.repository}"
    if status == 429:
        after = headers.get("retry-after", "")
        seconds = float(after) if re.fullmatch(r"[0-9]{1,6}", after) else RETRY_S
        hint = "" if token else " or set HF_TOKEN, which is allowed more"
        sentence = f"{hub} has too many requests from here: try again in {seconds:.0f} s{hint}."
        return Unreachable(sentence, BUSY, retry_after_s=seconds)
    if status >= 500:
        return Unreachable(f"{hub} answered for {str(name)!r} with status {status}; try again later.")
    message, kind = _refused(hub, name, file, status, code, page, token)
    return ModelportError(message, kind, param="model")


def _refused(hub: str, name: HubName, file: str, status: int, code: str, page: str, token: bool) -> tuple[str, Kind]:
    model, tokens = repr(name.repository), f"{hub}/settings/tokens"
    if code == "GatedRepo":
        todo = "ask for access there with the account of your HF_TOKEN" if token else "then set HF_TOKEN"
        return f"{model} is gated: accept its licence at {page}, {todo}.", FORBIDDEN
    if code == "RevisionNotFound":
        revision = name.revision or DEFAULT_REVISION
        return f"{model} has no revision {revision!r}; its branches are at {page}/tree/main.", MODEL_NOT_FOUND
    if code == "EntryNotFound":
        return f"{model} has no file {file!r}.", MODEL_NOT_FOUND
    if status == 401 and token:
        return f"{hub} does not accept your token: set HF_TOKEN to one of {tokens}.", FORBIDDEN
    if status == 403 and token:
        return f"Your token may not read {model}: give it read access to gated repositories at {tokens}.", FORBIDDEN
    if status == 403:
        return f"{hub} does not let {model} be read without a token: set HF_TOKEN.", FORBIDDEN
    if status in (401, 404):
        # Without a token the Hub says 401 also for what does not exist, so that private names stay private.
        todo = (
            "that your token may see: check the spelling."
            if token
            else "or it is private: check the spelling, and set HF_TOKEN for a private one."
        )
        return f"No model {model}: there is no such directory here, and none at {hub}, {todo}", MODEL_NOT_FOUND
    return f"{hub} refuses {str(name)!r} with status {status}.", FORBIDDEN
