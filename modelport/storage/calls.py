"""Calls into obstore, whose errors become sentences: its own texts hold addresses and requests."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from modelport.errors import FORBIDDEN, MODEL_NOT_FOUND, NOT_READY, ModelportError
from modelport.storage.clouds import Env, Place, said

# Codes in the stores' answers, where obstore has no class of errors for them (a listing's errors are all generic).
_ODD = ("Path contained empty path segment", "contained empty path segment", "InvalidPath")
"""How object_store says that a key is no path."""
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "specified bucket does not exist")
_REFUSED = ("403 Forbidden", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed",
            "AuthorizationFailure",
            # and obstore's own, of keys that are none
            "InvalidAccessKey", "DecodeCredentials", "OpenCredentials", "DecodeKey", "InvalidKey", "MissingKey",
            "ServiceAccountPathAndKeyProvided")  # fmt: skip
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "redirect without LOCATION")
_OF_MACHINE = ("169.254.169.254", "metadata.google.internal", "TokenRequest")
"""Where the machine itself is asked who it is, when nothing else says it."""


class Changed(ModelportError):
    """The object is not the one that was listed any more."""


class Calls:
    """What calls `call` and speaks for it. Raises ModelportError where obstore is not installed."""

    def __init__(self, place: Place, env: Env, verb: str = "read") -> None:
        self.place = place
        self.env = env
        self.verb = verb
        if find_spec("obstore") is None:
            raise ModelportError(
                f"What is at {place.cloud.scheme}:// needs a package that is not installed: "
                "pip install 'modelport[cloud]'."
            )

    def __call__(self, call: Callable[[], Any]) -> Any:
        from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError

        try:
            return call()
        except FileNotFoundError as error:
            raise self._no_bucket() if _names(error, _NO_BUCKET) else self.nothing() from None
        except PreconditionError:
            raise Changed(f"{self.place.given!r} changed while it was read; try again.", NOT_READY) from None
        except (BaseError, OSError, ValueError) as error:
            refused = isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or _names(error, _REFUSED)
            raise self._failed(error, refused=refused) from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # pyo3's, of which Python has no name to catch it by
                raise
            raise ModelportError(
                f"{self.place.given!r} could not be looked up: obstore failed. Check {self._where()}."
            ) from None

    def nothing(self) -> ModelportError:
        return ModelportError(f"There is nothing at {self.place.given!r}; check bucket and path.", MODEL_NOT_FOUND)

    def _no_bucket(self) -> ModelportError:
        return ModelportError(f"There is no such bucket or container as in {self.place.given!r}.", MODEL_NOT_FOUND)

    def _failed(self, error: Exception, *, refused: bool) -> ModelportError:
        given, cloud = self.place.given, self.place.cloud
        unsaid = not any(said(name, self.env) for name in cloud.who)
        if unsaid and (not refused or _names(error, _OF_MACHINE)) and not _names(error, _NO_BUCKET):
            return ModelportError(
                f"{given!r} may not be {self.verb} without credentials: set {cloud.credentials}, or name a workspace "
                "that has them.",
                FORBIDDEN,
            )
        if refused:
            return ModelportError(f"{given!r} may not be {self.verb}: check {cloud.credentials}.", FORBIDDEN)
        if _names(error, _NO_BUCKET):
            return self._no_bucket()
        if _names(error, _ELSEWHERE):
            return ModelportError(f"The bucket of {given!r} is in another region: set AWS_REGION to it.")
        if _names(error, _ODD):
            return ModelportError(
                f"{given!r} holds an object whose key has an empty part (`//`), which cannot be a file: rename it, or "
                "name a directory without it."
            )
        return ModelportError(f"{given!r} cannot be reached: check the network, {self._where()}.", NOT_READY)

    def _where(self) -> str:
        cloud = self.place.cloud
        return f"{cloud.credentials}, and {cloud.endpoints[0]} where it is set"


def _names(error: Exception, codes: tuple[str, ...]) -> bool:
    return any(code in str(error) for code in codes)
