"""Cloud: models in object stores, `s3://bucket/prefix`, `gs://bucket/prefix` and `az://container/prefix`.

Credentials, region and endpoint come from the environment, as each cloud's tools read it (AWS_…, GOOGLE_…,
AZURE_STORAGE_…); obstore, the extra `cloud`, does the rest. Profiles in ~/.aws are not among what it reads.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from modelport.catalog.repository import Repository, Unreachable
from modelport.errors import FORBIDDEN, MODEL_NOT_FOUND, ModelportError

CONNECT_S, ANSWER_S, TOTAL_S = 5, 15, 30
MOST_FILES = 10_000
# Codes in the stores' answers, where obstore has no class of errors for them (a listing's errors are all generic).
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "specified bucket does not exist")
_REFUSED = ("403 Forbidden", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed",
            "AuthorizationFailure")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cloud:
    """One row of the table: how obstore calls the store, and the variables that say where it is and who asks."""

    store: str
    bucket: str
    endpoints: tuple[str, ...]
    """Another address than the cloud's own; the first that is set holds."""
    credentials: str
    account: str = ""
    """Whose containers are meant, where their names are not the world's."""


CLOUDS: dict[str, Cloud] = {
    "s3": Cloud(
        "S3Store",
        "bucket",
        ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    ),
    "gs": Cloud("GCSStore", "bucket", ("GOOGLE_BASE_URL",), "GOOGLE_APPLICATION_CREDENTIALS"),
    "az": Cloud(
        "AzureStore",
        "container_name",
        ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCOUNT_NAME",
    ),
}


def is_cloud(source: str) -> bool:
    """Whether a source is the URI of an object store."""
    return source.partition("://")[0] in CLOUDS and "://" in source


def cloud_repository(source: str) -> tuple[Repository, str]:
    """The files below a URI, or beside it where it names a .gguf file, and that file's name or "".

    One listing. Raises ModelportError when there is nothing, when the store refuses, and when obstore is not installed;
    Unreachable when the store does not answer.
    """
    scheme, _, rest = source.partition("://")
    bucket, _, prefix = rest.partition("/")
    prefix, file = prefix.strip("/"), ""
    if not bucket:
        raise ModelportError(f"{source!r} names no bucket: write {scheme}://bucket/directory.", param="model")
    if prefix.lower().endswith(".gguf"):
        prefix, _, file = prefix.rpartition("/")
    call = _Calls(source, scheme)
    store = call(lambda: _store(scheme, bucket, prefix))
    import obstore

    # Not what lies deeper, save the one directory by which sentence-transformers says how it pools.
    listed = call(lambda: obstore.list_with_delimiter(store))
    objects = sorted(listed["objects"], key=lambda found: found["path"])[:MOST_FILES]
    files = {found["path"]: found["size"] for found in objects}
    if any(path.rstrip("/") == "1_Pooling" for path in listed["common_prefixes"]):
        files["1_Pooling/"] = 0
    if not objects:
        raise ModelportError(
            f"There are no files at {source!r}; check bucket and path.", MODEL_NOT_FOUND, param="model"
        )
    states = "\n".join(f"{o['path']} {o['size']} {o.get('e_tag') or o['last_modified']}" for o in objects)

    def read(name: str, start: int, count: int) -> bytes:
        got = bytes(call(lambda: obstore.get_range(store, name, start=start, length=count)))
        if len(got) != count:
            raise Unreachable(f"{source!r} gave {len(got):,} bytes of {name} where {count:,} were due; try again.")
        return got

    path = f"{scheme}://{bucket}/{prefix}".rstrip("/")
    revision = hashlib.sha256(states.encode()).hexdigest()[:40]
    return Repository(path=path, revision=revision, files=files, read=read), file


def place_of(source: str) -> str:
    """A digest of the endpoint and account that are set: a bucket of the same name elsewhere is another one."""
    cloud = CLOUDS[source.partition("://")[0]]
    return hashlib.sha256(f"{_endpoint(cloud)} {os.environ.get(cloud.account, '')}".encode()).hexdigest()[:16]


def _endpoint(cloud: Cloud) -> str:
    """The address that is set, or empty. Raises ModelportError for what is none, which obstore would not survive."""
    name = next((name for name in cloud.endpoints if os.environ.get(name)), "")
    if not name:
        return ""
    try:
        parts = urlsplit(os.environ[name])
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, a bracket too few
        usable = False
    if not usable:
        raise ModelportError(f"{name} is not a URL like https://storage.example.", param="model")
    return os.environ[name]


def _store(scheme: str, bucket: str, prefix: str) -> Any:
    import obstore.store

    cloud = CLOUDS[scheme]
    options: dict[str, Any] = {"connect_timeout": timedelta(seconds=CONNECT_S), "timeout": timedelta(seconds=ANSWER_S)}
    if urlsplit(_endpoint(cloud)).scheme == "http" or os.environ.get("AZURE_STORAGE_USE_EMULATOR"):
        options["allow_http"] = True  # who sets such an endpoint wants it
    return getattr(obstore.store, cloud.store)(
        **{cloud.bucket: bucket},
        prefix=prefix or None,
        client_options=options,
        retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=TOTAL_S)},
    )


class _Calls:
    """Calls into obstore, whose errors become sentences: its own texts hold addresses and requests."""

    def __init__(self, source: str, scheme: str) -> None:
        self.source, self.cloud = source, CLOUDS[scheme]
        if find_spec("obstore") is None:
            raise ModelportError(
                f"Models at {scheme}:// need a package that is not installed: pip install 'modelport[cloud]'.",
                param="model",
            )

    def __call__(self, call: Callable[[], Any]) -> Any:
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            return call()
        except FileNotFoundError:
            raise ModelportError(
                f"There is nothing at {self.source!r}; check bucket and path.", MODEL_NOT_FOUND, param="model"
            ) from None
        except (BaseError, OSError, ValueError) as error:
            if isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or _names(error, _REFUSED):
                raise ModelportError(
                    f"{self.source!r} may not be read: check {self.cloud.credentials}.", FORBIDDEN, param="model"
                ) from None
            if _names(error, _NO_BUCKET):
                raise ModelportError(
                    f"There is no such bucket or container as in {self.source!r}.", MODEL_NOT_FOUND, param="model"
                ) from None
            raise Unreachable(
                f"{self.source!r} cannot be reached: check the network, {self.cloud.credentials}, "
                f"and {self.cloud.endpoints[0]} where it is set."
            ) from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # pyo3's, of which Python has no name to catch it by
                raise
            raise ModelportError(
                f"{self.source!r} could not be looked up: obstore failed. Check {self.cloud.credentials}, and "
                f"{self.cloud.endpoints[0]} where it is set.",
                param="model",
            ) from None


def _names(error: Exception, codes: tuple[str, ...]) -> bool:
    return any(code in str(error) for code in codes)
