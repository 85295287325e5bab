"""Request: the body of one, made of what was asked or read from a file, and whether it may be sent.

Its shape is that of OpenAI's chat completions as the skill's request.yaml narrows it: roles system and user, of which
the first user message is read.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from modelport.errors import ModelportError
from modelport.tao import content, sampling
from modelport.tao.payload import SECRETS

ROLES = ("system", "user")
SECRET_CHARACTERS = 8
"""Shorter values of secret variables are not looked for: they would be found in any text."""


def build(
    arch: str, prompt: str, *, system: str = "", images: Sequence[str] = (), videos: Sequence[str] = ()
) -> dict[str, Any]:
    """A body with one question. Pictures and videos are URLs, data: URIs or files of this machine. Raises
    ModelportError."""
    media = [content.item(arch, "image", one) for one in images] + [content.item(arch, "video", one) for one in videos]
    if not prompt.strip() and not media:
        raise ModelportError("There is nothing to ask: give --prompt, --image, --video or --body.", param="messages")
    said: Any = [{"type": "text", "text": prompt}, *media] if media else prompt
    messages = [{"role": "system", "content": system}] if system else []
    return {"messages": [*messages, {"role": "user", "content": said}]}


def from_file(path: Path) -> dict[str, Any]:
    """A body as a file has it. Raises ModelportError where that is no JSON object."""
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelportError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise ModelportError(f"{path} is not JSON.") from None
    if not isinstance(data, dict):
        raise ModelportError(f"{path} must hold a JSON object with `messages`.")
    return cast(dict[str, Any], data)


def finish(arch: str, body: Mapping[str, Any], values: Mapping[str, sampling.Value]) -> dict[str, Any]:
    """The body as it is sent: with these sampling values, which come before its own, and for cosmos-predict2.5 with
    what kind of inference it is. Raises ModelportError for what the architecture's service would refuse."""
    found = {**body, **sampling.read(arch, {**own(arch, body), **values})}
    if strange := next((name for name in sampling.UNSUPPORTED.get(arch, ()) if name in found), None):
        raise ModelportError(f"{arch} knows no {strange}; leave it out.", param=strange)
    if found.get("stream"):
        raise ModelportError("An answer comes whole here: leave stream out of the body.", param="stream")
    _check_messages(found.get("messages"))
    media = content.media_items(found)
    for kind, url in media:
        content.check(arch, kind, url)
    if arch == "cosmos-predict2.5":
        kind = _inference_type(media)
        if found.setdefault("inference_type", kind) != kind:
            raise ModelportError(
                f"inference_type is {found['inference_type']!r}, and the message makes it {kind}; leave it out.",
                param="inference_type",
            )
    return found


def own(arch: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling values that a body brings."""
    return {parameter.name: body[parameter.name] for parameter in sampling.PARAMETERS[arch] if parameter.name in body}


def no_secrets(body: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Raises ModelportError where a secret of this environment stands in a body."""
    text = json.dumps(body, ensure_ascii=False)
    for name in SECRETS:
        secret = environ.get(name, "").strip()
        if len(secret) >= SECRET_CHARACTERS and secret in text:
            raise ModelportError(f"The request holds the value of {name}, which is a secret: take it out.")


def _inference_type(media: Sequence[tuple[content.Kind, str]]) -> str:
    kinds = {kind for kind, _ in media}
    return "video2world" if "video" in kinds else "image2world" if kinds else "text2world"


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise ModelportError("A body needs `messages`: a list with at least one of the role user.", param="messages")
    roles: list[object] = []
    for message in cast(list[Any], messages):
        given = cast(dict[str, Any], message) if isinstance(message, dict) else {}
        roles.append(given.get("role"))
        if roles[-1] not in ROLES:
            raise ModelportError(
                f"A message has the role {str(roles[-1])[:40]!r}; there is {' and '.join(ROLES)}.", param="messages"
            )
        if not isinstance(given.get("content"), str | list) or not given["content"]:
            raise ModelportError("A message needs content: a text, or a list of items.", param="messages")
    if "user" not in roles:
        raise ModelportError("A body needs a message of the role user.", param="messages")
