"""Settings: flags, then environment (`MODELPORT_…`), then modelport.yaml, then defaults; and which of them won."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from modelport.domain.spec import sentence
from modelport.domain.units import Duration
from modelport.errors import ModelportError, nearest

OTHER_VARIABLES = {
    *(f"MODELPORT_{name}" for name in ("CONFIG", "KEY", "SERVICE", "INSTANCE", "OWNER")),
    *(f"MODELPORT_{name}" for name in ("INSTANCE_DIR", "INSTANCE_URL", "HF_PYTHON", "TAO_VERSIONS", "ENGINE_KEY")),
    *(f"MODELPORT_{name}" for name in ("BUCKET", "TEST_VLLM", "TEST_TAO")),
}
"""Names with our prefix that are not settings: the file's own place, a client's key, the labels of engines, what our
runtime is told, the Python with torch, and a user's own table of TAO's images."""
SOCKET_BYTES = 100
"""The longest path of a unix socket that works everywhere is 107 bytes on Linux (unix(7)); some room is kept."""
TAKEN_PORTS = (range(8080, 8200), range(8700, 8701))
"""Ports that automatic choice skips: TAO's 8080-8199, which hold the model servers' presets, and the gateway's own."""


def _xdg(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback) / "modelport"


def _state_dir() -> Path:
    return _xdg("XDG_STATE_HOME", ".local/state")


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


Directory = Annotated[Path, AfterValidator(_absolute)]


class Settings(BaseSettings):
    """What an installation is set to. `origins` says for each field where its value came from."""

    model_config = SettingsConfigDict(env_prefix="MODELPORT_", extra="forbid", frozen=True)

    state_dir: Directory = Field(
        default_factory=_state_dir, description="store, keys, logs and instances; a local disk"
    )
    runtime_dir: Directory | None = Field(default=None, description="where the control socket lies; short path")
    host: str = Field(default="127.0.0.1", description="address the gateway listens on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8700, description="the gateway's port; 0 is any free one"
    )
    service_ports: Annotated[int, Field(ge=1024, le=65000)] = Field(
        default=8701, description="first port tried for `port: auto`"
    )
    engine_ports: Annotated[int, Field(ge=1024, le=65000)] = Field(
        default=18700, description="first port tried for an engine, on loopback"
    )
    lease: Duration = Field(default=600.0, description="how long engines go on when control is gone; 0 is for ever")
    drain_timeout: Duration = Field(
        default=300.0, description="longest wait for requests in flight before an engine stops"
    )
    start_timeout: Duration = Field(default=1800.0, description="longest wait for an engine to become ready")
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(default=32 << 20, description="largest request body")
    max_header_bytes: Annotated[int, Field(ge=1024)] = Field(default=64 << 10, description="largest request header")
    header_timeout: Duration = Field(default=10.0, description="longest wait for a complete request header")
    body_timeout: Duration = Field(default=30.0, description="longest pause while a request body arrives")
    request_timeout: Duration = Field(default=600.0, description="longest silence of an engine within one answer")
    write_timeout: Duration = Field(default=60.0, description="longest wait for a client that stops reading")
    store_url_ref: str = Field(
        default="", description="where a PostgreSQL URL is: env:NAME or file:/path; SQLite in state_dir where empty"
    )
    pepper_ref: str = Field(default="", description="where the secret is that keys are hashed with, with PostgreSQL")
    gateways: Annotated[int, Field(ge=1, le=64)] = Field(default=1, description="gateway processes on the one port")
    tls_cert: Path | None = Field(default=None, description="certificate chain for https, a PEM file")
    tls_key: Path | None = Field(default=None, description="its private key, a PEM file")
    allowed_hosts: tuple[str, ...] = Field(default=(), description="Host names that are answered; empty is all")
    cors_origins: tuple[str, ...] = Field(default=(), description="web origins that browsers may call from")
    media_urls: Literal["off", "listed", "any"] = Field(
        default="off", description="whether media that requests name by URL is fetched: off, listed or any"
    )
    media_hosts: tuple[str, ...] = Field(default=(), description="hosts that media is fetched from when listed")
    journal_keep: Annotated[int, Field(ge=0)] = Field(default=1 << 30, description="bytes of old journal kept")
    requests_keep: Duration = Field(default=90 * 86400.0, description="how long requests stay in the store")
    bodies_keep: Duration = Field(default=7 * 86400.0, description="how long bodies stay, of keys that opted in")
    log_bucket: str = Field(default="", description="s3://, gs:// or az:// to copy the request log to")
    trace_sample: Annotated[float, Field(ge=0, le=1)] = Field(default=0.0, description="share of requests traced")
    tao_ngc_url: str = Field(default="", description="where NGC keys of TAO's logins are checked; empty: our own keys")
    tao_airgapped: bool = Field(default=False, description="TAO's routes without a key, for this machine's own users")
    log_level: str = Field(default="info", description="debug, info, warning or error")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # load() reads the others itself, to know where each value came from

    @property
    def socket(self) -> Path:
        """Control's unix socket. Raises ModelportError where the path is too long for one."""
        path = self.state_dir / "control.sock"
        if self.runtime_dir is not None:  # which several installations may share
            path = self.runtime_dir / f"control-{hashlib.sha256(os.fsencode(self.state_dir)).hexdigest()[:12]}.sock"
        if len(os.fsencode(path)) > SOCKET_BYTES:
            raise ModelportError(
                f"The control socket's path would be {len(os.fsencode(path))} bytes, more than the {SOCKET_BYTES} a "
                f"unix socket can have: {path}. Set runtime_dir (MODELPORT_RUNTIME_DIR) to a shorter directory."
            )
        return path

    @property
    def database(self) -> Path:
        return self.state_dir / "modelport.db"


def config_file(flag: Path | None = None) -> Path | None:
    """The modelport.yaml in force: the flag's, MODELPORT_CONFIG's, the working directory's, the user's, or none.

    Raises ModelportError when one that was named does not exist.
    """
    named = flag or (Path(os.environ["MODELPORT_CONFIG"]) if os.environ.get("MODELPORT_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise ModelportError(f"The configuration file {named} does not exist.")
        return named
    for path in (Path("modelport.yaml"), _xdg("XDG_CONFIG_HOME", ".config") / "modelport.yaml"):
        if path.is_file():
            return path
    return None


def load(flags: Mapping[str, Any], config: Path | None = None) -> tuple[Settings, dict[str, str]]:
    """The settings in force and each field's origin: `flag`, `MODELPORT_X`, the file's path, or `default`.

    `flags` holds what the command line gave; None counts as not given. Raises ModelportError for an unknown key or
    variable (with the nearest known one) or a bad value.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    environment = EnvSettingsSource(Settings)()
    file = config_file(config)
    try:
        from_file: dict[str, Any] = dict(YamlConfigSettingsSource(Settings, yaml_file=file)()) if file else {}
    except Exception as error:  # yaml's own errors, an undecodable file, or a top level that is no mapping
        raise ModelportError(f"{file} cannot be read as YAML settings: {str(error).splitlines()[0]}.") from None
    _check_variables()
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    for source, origin in ((from_file, str(file)), (environment, ""), (given, "flag")):
        for key, value in source.items():
            values[key] = value
            origins[key] = origin or f"MODELPORT_{key.upper()}"
    try:
        return Settings(**values), origins
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        origin = origins.get(str(first["loc"][0]), str(file)) if first["loc"] else "settings"
        raise ModelportError(sentence(first, f"The settings ({origin})", Settings)) from None


def _check_variables() -> None:
    known = {f"MODELPORT_{field.upper()}" for field in Settings.model_fields} | OTHER_VARIABLES
    for variable in os.environ:
        if variable.startswith("MODELPORT_") and variable not in known:
            raise ModelportError(f"The environment has {variable}, which is not a setting.{nearest(variable, known)}")
