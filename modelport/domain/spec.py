"""Spec: what a user asks for. YAML, CLI flags and REST all make this one object."""

import hashlib
import json
import re
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from modelport.domain.limits import NO_LIMITS, Limits
from modelport.domain.price import Price
from modelport.domain.units import Duration
from modelport.errors import ModelportError, nearest

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

Task = Literal["auto", "generate", "embed", "classify", "detect"]
MODEL_SUFFIXES = (".gguf", ".safetensors", ".onnx", ".gz", ".tgz", ".tar")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
LABEL_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("a name is 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends")
    return value


def _no_control(value: str) -> str:
    if not value.strip() or any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in value):
        raise ValueError("a model is named by an alias, a path or an id, without control characters")
    return value


def _scalars(value: object) -> object:
    """Options as a command line gives them: `0.5` is a number, `true` is true, and what is neither is text."""
    if not isinstance(value, dict):
        return value
    _no_secrets(cast(dict[str, Any], value))
    return {name: _scalar(text) for name, text in cast(dict[str, Any], value).items()}


def _scalar(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        made = json.loads(text)
    except ValueError:
        return text
    return made if isinstance(made, str | int | float | bool) else text


class Speculative(BaseModel):
    """Speculative decoding: a cheaper guess of the next tokens, which the model then checks in one step."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["eagle", "eagle3", "ngram", "mtp", "draft"] = "eagle3"
    """`draft` is a smaller model of the same kind; `ngram` and `mtp` need no other model."""
    model: Annotated[str, Field(max_length=4096)] = ""
    """The draft model: a Hub id, a directory or a cloud URI."""
    tokens: Annotated[int, Field(ge=1, le=32)] = 3
    """Drafted per step."""

    @model_validator(mode="after")
    def _draft_needs_model(self) -> "Speculative":
        if self.method in ("eagle", "eagle3", "draft") and not self.model.strip():
            raise ValueError(f"method {self.method} needs a draft model; set model: too")
        return self


class Failover(BaseModel):
    """Requests go on to another service, under its name, its price and its limits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: Annotated[str, AfterValidator(_name)]
    """A service's name."""
    on: tuple[Literal["failed", "unreachable", "full"], ...] = ("failed", "unreachable")
    """`failed`: it was stopped or could not be started. `unreachable`: no replica of it answers the door. `full`: its
    queue has no place."""


CLOUD_PLACE = re.compile(r"(?:s3|aws|az|azure|gs)://[^/].*")
"""What an object store's address looks like; every other place is a directory."""


def _place(value: str) -> str:
    if "://" not in value and not value.startswith("/"):
        raise ValueError("a directory is named by its whole path, from / on")
    if "://" in value and not CLOUD_PLACE.fullmatch(value):
        raise ValueError("a place is a directory, or s3://…, az://… or gs://…")
    return value


def _no_secrets(value: dict[str, Any]) -> dict[str, Any]:
    for name in value:
        if SECRET_NAME.search(str(name).upper()) and name not in NO_SECRETS:
            raise ValueError(f"{name} looks like a secret, which is never written down: give env its place, env:NAME")
    return value


class Batch(BaseModel):
    """A one-time job: each file of a folder is asked once, each answer is written below `results`, then it is over."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Annotated[str, AfterValidator(_no_control), AfterValidator(_place), Field(max_length=4096)]
    """A directory of the machine it runs on, or a cloud URI."""
    results: Annotated[str, AfterValidator(_no_control), AfterValidator(_place), Field(max_length=4096)]
    """Where answers go: a directory or a cloud URI. What is there already is not done again."""
    request: Annotated[dict[str, Any], AfterValidator(_no_secrets)] = {}
    """What each request says beside its file: a prompt, thresholds."""


def _variables(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not VARIABLE.fullmatch(name):
            raise ValueError(f"{name[:80]!r} is no name of an environment variable")
        if len(text) > 4096 or "\0" in text:
            raise ValueError(f"{name} has more than 4096 characters, or a NUL")
        if SECRET_NAME.search(name) and not REFERENCE.fullmatch(text):
            raise ValueError(
                f"{name} is a secret, of which only the place may be given: env:NAME of a variable that is set where "
                "Modelport runs, or file:/path"
            )
    return value


def _labels(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not LABEL_NAME.fullmatch(name) or len(text) > 1024 or not text.isprintable():
            raise ValueError(f"the label {name[:80]!r} is not a short name of a-z, 0-9, '.', '_' and '-' with a text")
    return value


NO_SECRETS = frozenset(("model_key",))
"""Options that only sound like one: cosmos-predict2.5's registered model."""
SECRET_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|KEY)(?:_|$)|(?:API|ACCESS|USER|ADMIN)KEY"
)
"""Environment variables whose value is nobody's to see."""
REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,127}|file:/[^\0]{1,4000}|")
"""Where a secret is; empty for none."""


def _accelerators(value: str) -> str:
    name, colon, count = value.partition(":")
    if not colon or not name.strip():
        raise ValueError("accelerators are NAME:COUNT, like A100:8")
    if not re.fullmatch(r"-?[0-9]{1,9}", count.strip()):
        raise ValueError(f"the number of GPUs must be a whole number, not {count.strip()!r}")
    if int(count) < 1:
        raise ValueError(f"the number of GPUs must be at least 1, not {int(count)}")
    if int(count) > 4096:
        raise ValueError(f"the number of GPUs must be at most 4096, not {int(count)}")
    return f"{name.strip()}:{int(count)}"


def _ports(value: str) -> str:
    if value == "auto":
        return value
    low, dash, high = value.partition("-")
    if not dash or not (low + high).isdecimal() or not 1 <= int(low) <= int(high) <= 65535:
        raise ValueError("a port is a number, auto, or a range like 8080-8199")
    return value


def _lowered(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


Degree = Annotated[int, Field(ge=1, le=4096)]


class Spec(BaseModel):
    """One service as wanted. Frozen; unknown keys are errors.

    A Spec never holds a secret. Fields marked "new engine" need a new engine process when they change; the others
    take effect on the running one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, AfterValidator(_no_control), Field(max_length=4096)]
    """An alias (`smollm2`), a Hub id (`org/name`, `org/name@revision`), a GGUF file, a directory, or a cloud URI
    (`s3://`, `gs://`, `az://`; also of a tar archive). New engine."""
    name: Annotated[str, AfterValidator(_name)] = ""
    """The name clients use as `model`; made from `model` where not given."""
    served_name: Annotated[str, Field(max_length=256)] = ""
    """Another name that clients may use as `model`, in any spelling, like `Qwen/Qwen3-8B`. New engine."""
    engine: str = "auto"
    """Which engine, or auto. New engine."""
    platform: str = "process"
    """Where it runs. New engine."""
    task: Task = "auto"
    """Text out (`generate`), vectors out (`embed`), classes of pictures (`classify`) or boxes in them (`detect`); auto
    follows the model's own files. New engine."""
    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    """Engine processes behind the one name."""
    context: Annotated[int, Field(ge=64)] | None = None
    """Tokens one request may use, prompt and answer together; by default what the model was trained for and memory
    holds. New engine."""
    parallel: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Requests one replica works on at once. New engine."""
    accelerators: Annotated[str, AfterValidator(_accelerators)] | None = None
    """`NAME:COUNT`, like `H100:4`; by default what the machine has. New engine."""
    quantization: Annotated[str, BeforeValidator(_lowered), Field(max_length=64)] | None = None
    """What weights are quantized to while they are loaded: `fp8`, `int8wo`, `int4wo-128`, `bitsandbytes`; each engine
    has its own. Files that are quantized already are used as they are. New engine."""
    dtype: Annotated[Literal["auto", "bfloat16", "float16", "float32"], BeforeValidator(_lowered)] | None = None
    """What is computed in. New engine."""
    kv_cache_dtype: Annotated[Literal["auto", "fp8", "fp8_e4m3", "fp8_e5m2"], BeforeValidator(_lowered)] | None = None
    """What keys and values are kept in. New engine."""
    memory_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """The share of each GPU's memory that the engine may use. New engine."""
    tensor_parallel: Degree | None = None
    """GPUs that share every layer; by default the fewest that hold the model. New engine."""
    pipeline_parallel: Degree | None = None
    """GPUs that take the layers in turns. New engine."""
    data_parallel: Degree | None = None
    """Copies of the model behind one engine. New engine."""
    expert_parallel: Degree | None = None
    """GPUs that share out whole experts: 1, or all the engine uses. New engine."""
    max_batched_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of one step of the engine; its own default where not given. New engine."""
    eager: bool = False
    """No CUDA graphs: slower, and a little more room. New engine."""
    speculative: Speculative | None = None
    """Speculative decoding. New engine."""
    engine_args: tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...] = ()
    """More arguments for the engine, as they are; none that would undo its key, host or port. New engine."""
    options: Annotated[dict[str, str | int | float | bool], BeforeValidator(_scalars), Field(max_length=64)] = {}
    """Settings of the model's handler in Modelport's own runtime, like `score` or `device_map`. New engine."""
    env: Annotated[dict[str, str], AfterValidator(_variables), Field(max_length=64)] = {}
    """Environment variables of the engine. Of a secret (`HF_TOKEN`) only where it is: `env:HF_TOKEN`, `file:/path`. New
    engine."""
    workspace: Annotated[str, Field(max_length=63)] = ""
    """The workspace whose bucket and credentials the model and the media are read with. New engine."""
    batch: Batch | None = None
    """A one-time job over a folder, instead of a service that answers requests. New engine."""
    port: Annotated[int, Field(ge=1, le=65535)] | Annotated[str, AfterValidator(_ports)] | None = None
    """A port of its own on the gateway, beside the common one: a number, `auto`, or the lowest free one of a range,
    `8080-8199`."""
    auth: Literal["key", "none"] = "key"
    """`none` opens the service's own port without a key: loopback only, and `port` must be set."""
    idle_timeout: Duration = 1800.0
    """Seconds without a request after which the engines are stopped, to be woken by the next one; 0 is never."""
    wake_waiters: Annotated[int, Field(ge=0, le=10_000)] = 64
    """Requests held while the engines start; more are told to come back."""
    wake_timeout: Duration = 600.0
    """Seconds a held request waits before it is told to come back."""
    limits: Limits = NO_LIMITS
    """What all clients of the service together may do."""
    price: Price = Price()
    """What its use costs."""
    balance: Literal["least", "session", "prefix"] = "least"
    """Which replica is next: the one with the fewest requests in flight, or the same one for the same session
    (`x-session-id`) or beginning of the prompt, so that its cache is used."""
    failover: Failover | None = None
    """Who answers when this service cannot."""
    allow_fields: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    """Request fields that are refused elsewhere, like `chat_template`, and passed on to this service's engine."""

    job: bool = False
    """A TAO job: requests are not held while it starts (202 at once), and idle or stop ends it for good."""
    labels: Annotated[dict[str, str], AfterValidator(_labels), Field(max_length=32)] = {}
    """Names for whoever made it: nothing here acts on them."""

    @model_validator(mode="before")
    @classmethod
    def _fill_name(cls, data: Any) -> Any:
        given = cast(dict[str, Any], data) if isinstance(data, dict) else {}
        if isinstance(given.get("model"), str) and not given.get("name"):
            return {**given, "name": name_from(given["model"])}
        return cast(Any, data)

    @field_validator("served_name")
    @classmethod
    def _printable(cls, value: str) -> str:
        if value != value.strip() or not value.isprintable():
            raise ValueError("a served name is printable, without spaces at its ends")
        return value

    @model_validator(mode="after")
    def _batch_is_job(self) -> "Spec":
        if self.batch is not None and (not self.job or self.replicas > 1 or self.port is not None):
            raise ValueError("a batch is a job of one replica without a port: set `job: true`")
        return self

    @model_validator(mode="after")
    def _auth_needs_port(self) -> "Spec":
        if self.auth == "none" and self.port is None:
            raise ValueError("auth: none is possible only on a port of the service's own; set port: too")
        return self

    def engine_hash(self) -> str:
        """A digest of the fields that need a new engine when they change: two equal ones can share a process."""
        wanted = self.model_dump(mode="json", include=set(NEW_ENGINE))
        return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]


KEPT_RUNNING = frozenset(
    {"replicas", "port", "auth", "idle_timeout", "wake_waiters", "wake_timeout", "limits", "price", "balance",
     "failover", "allow_fields", "job", "labels"}
)  # fmt: skip
NEW_ENGINE = frozenset(Spec.model_fields) - KEPT_RUNNING


def name_from(model: str) -> str:
    """A service name made of a model's: the last part of a path, without suffix, in a-z, 0-9 and -."""
    last = model.rstrip("/").rsplit("/", 1)[-1].lower()
    for suffix in MODEL_SUFFIXES:
        last = last.removesuffix(suffix)
    return re.sub(r"[^a-z0-9]+", "-", last).strip("-")[:63].strip("-") or "model"


def parse_spec(data: object, where: str = "the spec") -> Spec:
    """A Spec from a mapping as YAML or JSON gave it.

    Raises ModelportError with one sentence per problem: which key, which value, and the nearest known key for an
    unknown one. `where` says whose data it is.
    """
    if not isinstance(data, dict):
        raise ModelportError(f"{where} must be a mapping of keys to values, not {type(data).__name__}.")
    try:
        return Spec.model_validate(data)
    except ValidationError as error:
        problems = [sentence(e, where, Spec) for e in error.errors(include_url=False)]
        first = error.errors(include_url=False)[0]
        raise ModelportError(" ".join(problems), param=str(first["loc"][0]) if first["loc"] else None) from None


def sentence(error: Any, where: str, model: type[BaseModel]) -> str:
    """One pydantic error as a sentence of ours, with a hint for unknown keys."""
    key = ".".join(str(part) for part in error["loc"] if not str(part).startswith(("constrained", "literal", "int")))
    if error["type"] == "extra_forbidden":
        return f"{where} has the unknown key {key!r}.{nearest(key, list(model.model_fields))}"
    if error["type"] == "missing":
        return f"{where} lacks the key {key!r}."
    what = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    if not key:
        return f"{where}: {what}."
    field = str(error["loc"][0])
    if field in ("env", "options", "batch") or field.endswith("_ref"):  # what stands there may be a secret
        return f"{where}: {key} is wrong: {what}."
    shown = repr(error["input"])
    return f"{where}: {key} is {shown if len(shown) < 80 else shown[:77] + '...'}, but {what[:1].lower() + what[1:]}."


def parse_file(data: object, where: str) -> list[Spec]:
    """All Specs of one YAML file: `services:` with a mapping of name to spec (or a list), or a single spec.

    Raises ModelportError when the file holds no service, a name twice, or a spec that is wrong.
    """
    if not isinstance(data, dict):
        raise ModelportError(f"{where} holds no services; write `services:` with a name and a `model:` below it.")
    content = cast(dict[str, Any], data)
    if "services" not in content:
        return [parse_spec(content, where)]
    if extra := [str(k) for k in content if k != "services"]:
        raise ModelportError(f"{where} has the unknown key {extra[0]!r} beside 'services'.")
    services = content["services"]
    entries: list[Any] = []
    if isinstance(services, dict):
        for name, spec in cast(dict[str, Any], services).items():
            if not isinstance(spec, dict):
                raise ModelportError(f"{where}: service {name!r} must be a mapping with at least `model:`.")
            own = cast(dict[str, Any], spec)
            if own.get("name", name) != name:
                raise ModelportError(f"{where}: service {name!r} calls itself {own['name']!r}; keep one of the two.")
            entries.append({**own, "name": str(name)})
    elif isinstance(services, list):
        entries = cast(list[Any], services)
    else:
        raise ModelportError(f"{where}: `services:` must be a mapping of names to specs, or a list of specs.")
    if not entries:
        raise ModelportError(f"{where} holds no services.")
    specs: list[Spec] = []
    for number, entry in enumerate(entries, 1):
        label: object = cast(dict[str, Any], entry).get("name", number) if isinstance(entry, dict) else number
        specs.append(parse_spec(cast(object, entry), f"{where}: service {label!r}"))
    names = [spec.name for spec in specs]
    if doubles := sorted({n for n in names if names.count(n) > 1}):
        raise ModelportError(f"{where} names the service {doubles[0]!r} twice.")
    return specs
