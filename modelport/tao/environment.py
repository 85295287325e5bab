"""docker_env_vars: the environment variables that a start may set, and that secrets among them come by reference."""

from collections.abc import Mapping

from modelport.domain.spec import REFERENCE, SECRET_NAME
from modelport.domain.variables import ALLOWED, FORBIDDEN
from modelport.errors import ModelportError, nearest

LONGEST = 500
"""Characters of a value."""


def environment(given: Mapping[str, str | None]) -> dict[str, str]:
    """What a Spec's `env` is to be. Raises ModelportError (400), which never repeats a value."""
    found: dict[str, str] = {}
    for name, text in given.items():
        if name in FORBIDDEN:
            raise ModelportError(f"docker_env_vars cannot set {name}: it is the server's own.", param="docker_env_vars")
        if name not in ALLOWED:
            raise ModelportError(
                f"docker_env_vars cannot set {name[:80]!r}.{nearest(name, ALLOWED)}", param="docker_env_vars"
            )
        if text is None:
            continue
        if len(text) > LONGEST:
            raise ModelportError(
                f"docker_env_vars: {name} has more than {LONGEST} characters.", param="docker_env_vars"
            )
        if SECRET_NAME.search(name) and not REFERENCE.fullmatch(text):
            raise ModelportError(
                f"{name} is a secret, of which only the place may be sent: set it where Modelport runs and give "
                f"{name}=env:{name}, or {name}=file:/path for a file there.",
                param="docker_env_vars",
            )
        found[name] = text
    return found
