"""Workspace: a bucket and, by reference, the credentials it is read and written with."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from modelport.domain.spec import REFERENCE

WORKSPACE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


def _name(value: str) -> str:
    if not WORKSPACE_NAME.fullmatch(value):
        raise ValueError("a workspace's name is 1 to 63 letters, digits, '-', '_' and '.'")
    return value


def _bucket(value: str) -> str:
    if not BUCKET.fullmatch(value):
        raise ValueError("a bucket's name is letters, digits, '-', '_' and '.'")
    return value


def _reference(value: str) -> str:
    if not REFERENCE.fullmatch(value):
        raise ValueError(
            "a secret is given by its place, env:NAME (set where Modelport runs) or file:/path, never itself"
        )
    return value


def _endpoint(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password):
        raise ValueError("an endpoint is a URL like https://storage.example, without credentials")
    return value


Reference = Annotated[str, AfterValidator(_reference)]


class Workspace(BaseModel):
    """One bucket (Azure: container) of one cloud. Holds references to secrets, never a secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(_name)]
    id: str = ""
    """A UUID, given when it is first put; TAO's API names workspaces by it."""
    cloud: Literal["s3", "az", "gs"]
    bucket: Annotated[str, AfterValidator(_bucket)]
    region: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9-]*$")] = ""
    endpoint: Annotated[str, AfterValidator(_endpoint), Field(max_length=1024)] = ""
    """Another address than the cloud's own."""
    account: Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z0-9_-]*$")] = ""
    """Azure's storage account."""
    access_key_ref: Reference = ""
    """S3's key id, or Azure's account key."""
    secret_key_ref: Reference = ""
    """S3's secret key."""
    credentials_ref: Reference = ""
    """Google's service account key, as JSON text."""

    def env(self) -> dict[str, str]:
        """The variables that say where, as each cloud's own tools read them. None of them is a secret."""
        names = {
            "s3": {"AWS_REGION": self.region, "AWS_ENDPOINT_URL": self.endpoint},
            "az": {"AZURE_STORAGE_ACCOUNT_NAME": self.account, "AZURE_STORAGE_ENDPOINT": self.endpoint},
            "gs": {"GOOGLE_BASE_URL": self.endpoint},
        }[self.cloud]
        return {name: text for name, text in names.items() if text}

    def secret_env(self) -> dict[str, str]:
        """The variables that say who asks, with the places their values are at."""
        names = {
            "s3": {"AWS_ACCESS_KEY_ID": self.access_key_ref, "AWS_SECRET_ACCESS_KEY": self.secret_key_ref},
            "az": {"AZURE_STORAGE_ACCOUNT_KEY": self.access_key_ref},
            "gs": {"GOOGLE_SERVICE_ACCOUNT_KEY": self.credentials_ref},
        }[self.cloud]
        return {name: reference for name, reference in names.items() if reference}

    def uri(self, path: str = "") -> str:
        """`s3://bucket/path`."""
        return f"{self.cloud}://{self.bucket}/{path.lstrip('/')}".rstrip("/")
