"""Clouds: which object store a URI names, where that is and who asks, and obstore's client for it.

obstore (the extra `cloud`) itself reads the variables of this process's environment; what `env` says is put over that.
Credentials are taken whole: a session token of the process never goes with a key of a workspace. Profiles in ~/.aws are
not among what is read.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from modelport.errors import ModelportError

Env = Mapping[str, str] | None
"""Variables over those of this process; None for none."""
CONNECT_S, ANSWER_S, TOTAL_S = 5, 15, 30
_SEGMENT = re.compile(r"(?!\.\.?$)[^\0-\x1f\x7f]{1,255}")


@dataclass(frozen=True, slots=True)
class Cloud:
    """One row of the table: how obstore calls the store, and the variables that say where it is and who asks."""

    scheme: str
    store: str
    bucket: str
    endpoint: str
    """obstore's word for another address than the cloud's own."""
    endpoints: tuple[str, ...]
    """The variables of it; the first that is set holds."""
    settings: Mapping[str, str]
    """Further variables, and obstore's words for them."""
    who: tuple[str, ...]
    """Variables of which any says who asks, or that nobody does."""
    credentials: str
    """What to check, as sentences name it."""
    account: str = ""
    """Whose containers are meant, where their names are not the world's."""
    head: str = "HEAD"
    """The method that an address is signed for, with which headers are asked for."""


CLOUDS: dict[str, Cloud] = {
    "s3": Cloud(
        "s3",
        "S3Store",
        "bucket",
        "aws_endpoint_url_s3",  # its `endpoint` gives way to this one where the process has it
        ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        {
            "AWS_REGION": "region",
            "AWS_DEFAULT_REGION": "default_region",
            "AWS_SKIP_SIGNATURE": "skip_signature",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "virtual_hosted_style_request",
        },
        ("AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE", "AWS_WEB_IDENTITY_TOKEN_FILE",
         "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    ),
    "gs": Cloud(
        "gs",
        "GCSStore",
        "bucket",
        "base_url",
        ("GOOGLE_BASE_URL",),
        {
            "GOOGLE_SERVICE_ACCOUNT_KEY": "service_account_key",
            "GOOGLE_SERVICE_ACCOUNT": "service_account",
            "GOOGLE_APPLICATION_CREDENTIALS": "application_credentials",
            "GOOGLE_SKIP_SIGNATURE": "skip_signature",
        },
        ("GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH",
         "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SKIP_SIGNATURE"),
        "GOOGLE_SERVICE_ACCOUNT_KEY or GOOGLE_APPLICATION_CREDENTIALS",
    ),
    "az": Cloud(
        "az",
        "AzureStore",
        "container_name",
        "endpoint",
        ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
        {
            "AZURE_STORAGE_ACCOUNT_NAME": "account_name",
            "AZURE_STORAGE_ACCOUNT_KEY": "account_key",
            "AZURE_STORAGE_USE_EMULATOR": "use_emulator",
            "AZURE_SKIP_SIGNATURE": "skip_signature",
        },
        ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_TOKEN",
         "AZURE_STORAGE_CLIENT_ID", "AZURE_CLIENT_ID", "AZURE_SKIP_SIGNATURE", "AZURE_STORAGE_USE_EMULATOR"),
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCOUNT_NAME",
        "GET",
    ),
}  # fmt: skip
SCHEMES = {"s3": "s3", "aws": "s3", "gs": "gs", "az": "az", "azure": "az"}
"""A URI's scheme to the cloud it means."""


@dataclass(frozen=True, slots=True)
class Place:
    """A URI, taken apart."""

    given: str
    cloud: Cloud
    bucket: str
    path: str
    """Without slashes at its ends; empty for the bucket itself."""

    @property
    def uri(self) -> str:
        """As engines know it: the scheme by its usual name, no slash at the end."""
        return f"{self.cloud.scheme}://{self.bucket}/{self.path}".rstrip("/")

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class _Key:
    """S3's credentials, all of one place, as obstore asks for them."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    token: str | None = field(repr=False)

    def __call__(self) -> Any:
        named = {"access_key_id": self.access_key_id, "secret_access_key": self.secret_access_key}
        return {**named, "token": self.token, "expires_at": None}


def is_cloud(uri: str) -> bool:
    """Whether this is the URI of an object store."""
    scheme, mark, _ = uri.partition("://")
    return bool(mark) and scheme in SCHEMES


def place(uri: str) -> Place:
    """A URI's parts. Raises ModelportError for one that names no bucket, or a path that no object has."""
    scheme, _, rest = uri.partition("://")
    if scheme not in SCHEMES:
        raise ModelportError(f"{uri!r} is no address of an object store: write s3://, gs:// or az://.")
    bucket, _, path = rest.partition("/")
    if not bucket:
        raise ModelportError(f"{uri!r} names no bucket: write {scheme}://bucket/directory.")
    path = path.strip("/")
    if path and not all(map(_SEGMENT.fullmatch, path.split("/"))):
        raise ModelportError(f"{uri!r} has a part that is empty, '.', '..', too long or not printable; write it out.")
    return Place(uri, CLOUDS[SCHEMES[scheme]], bucket, path)


def place_of(uri: str, env: Env = None) -> str:
    """A digest of the endpoint and account that are set: a bucket of the same name elsewhere is another one."""
    cloud = place(uri).cloud
    words = f"{endpoint(cloud, env)} {said(cloud.account, env)}"
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def store(uri: str, env: Env = None, *, answer_s: float = ANSWER_S) -> Any:
    """obstore's store at a URI: paths in it are below that. `answer_s` is the most that one answer may take in all.

    Raises ModelportError for what is no URI of a store, and what obstore raises for settings it cannot use."""
    where = place(uri)
    return open_store(where, env, where.path, answer_s)


def open_store(where: Place, env: Env, prefix: str, answer_s: float) -> Any:
    import obstore.store

    cloud, address, env = where.cloud, endpoint(where.cloud, env), _own(env)
    options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "timeout": timedelta(seconds=answer_s),
    }
    if urlsplit(address).scheme == "http" or said("AZURE_STORAGE_USE_EMULATOR", env):
        options["allow_http"] = True  # who sets such an endpoint wants it
    settings: dict[str, Any] = {key: env[name] for name, key in cloud.settings.items() if env.get(name)}
    if address:
        settings[cloud.endpoint] = address
    if cloud.scheme == "s3" and (key := env.get("AWS_ACCESS_KEY_ID")):
        secret, token = env.get("AWS_SECRET_ACCESS_KEY", ""), env.get("AWS_SESSION_TOKEN") or None
        settings["credential_provider"] = _Key(key, secret, token)
    return getattr(obstore.store, cloud.store)(
        **{cloud.bucket: where.bucket},
        **settings,
        prefix=prefix or None,
        client_options=options,
        retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=TOTAL_S)},
    )


def endpoint(cloud: Cloud, env: Env) -> str:
    """The address that is set, or empty. Raises ModelportError for what is none, which obstore would not survive."""
    sources = (_own(env), os.environ)
    name, text = next(((n, e[n]) for e in sources for n in cloud.endpoints if e.get(n)), ("", ""))
    if not name:
        return ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, a bracket too few
        usable = False
    if not usable:
        raise ModelportError(f"{name} is not a URL like https://storage.example.")
    return text


def said(name: str, env: Env) -> str:
    """A variable's value, in `env` first; empty where it is not set."""
    return (env or {}).get(name) or os.environ.get(name, "")


def _own(env: Env) -> Mapping[str, str]:
    """What `env` says otherwise than this process's environment, which may be among it: never that one's session token
    with another's key, nor its more particular variable over the other's plain one."""
    return {name: text for name, text in (env or {}).items() if os.environ.get(name) != text}
