"""Arguments: what a model server is told when it starts."""

import argparse
import ipaddress
import os
import re
import uuid
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

from modelport.errors import ModelportError, nearest
from modelport.runtime.job import Job, Scalar, job, literal, scalar, variables

KEY = "MODELPORT_ENGINE_KEY"
TASKS = ("auto", "generate", "embed", "classify", "detect")


@dataclass(frozen=True, slots=True)
class BatchJob:
    """A folder to be done, where answers go, and what each request says beside its file."""

    input: str
    results: str
    request: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Arguments:
    """One server as wanted. `key` never shows in a repr."""

    model: str
    name: str
    task: str
    host: str
    port: int
    options: Mapping[str, Scalar]
    bucket: str
    hosts: tuple[str, ...]
    idle_timeout_s: float
    """0: never."""
    shown_idle_s: float
    """What answers say: who started it may end it for being idle."""
    job_id: str
    max_queue: int
    batch_wait_s: float
    timeout_s: float
    batch: BatchJob | None
    key: str = field(repr=False, default="")

    @property
    def on_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def read(arguments: Sequence[str], environ: MutableMapping[str, str], program: str) -> Arguments:
    """Arguments from a command line and an environment, which gets what `--docker_env_vars` sets and loses the key.

    Ends the process with 2 and a sentence on stderr for what is wrong.
    """
    parser = _parser(program)
    given = parser.parse_args(list(arguments))
    try:
        wanted = job(given.job) if given.job else Job()
        environ.update(variables(given.docker_env_vars) if given.docker_env_vars else {})
        model = given.model_flag or given.model or wanted.model
        if not model:
            raise ModelportError("No model: give --model, or --job with specs.model_path.")
        options = {**wanted.options, **dict(_option(text) for text in given.option)}
        batch = _batch(given.batch) if given.batch else None
        for name in ("max_queue", "timeout_s"):
            if not getattr(given, name) > 0:  # NaN is not either
                raise ModelportError(f"--{name.replace('_', '-')} must be above 0.")
        if not 0 <= given.port <= 65535:
            raise ModelportError(f"--port must be 0 to 65535, not {given.port}.")
        if not (given.idle_timeout_minutes >= 0 and given.batch_wait_ms >= 0):
            raise ModelportError("--idle_timeout_minutes and --batch-wait-ms must not be below 0.")
    except ModelportError as error:
        parser.error(error.message)
    debugged = environ.get("DEBUG_ENABLED", "").lower() == "true"
    kept = given.disable_auto_deletion or debugged or batch is not None
    return Arguments(
        model=model,
        name=given.name or model.rstrip("/").rpartition("/")[2] or model,
        task=given.task,
        host=given.host,
        port=given.port,
        options=options,
        bucket=(given.bucket or environ.get("MODELPORT_BUCKET", "")).rstrip("/"),
        hosts=tuple(host.lower() for host in given.allow_url),
        idle_timeout_s=0.0 if kept else given.idle_timeout_minutes * 60,
        shown_idle_s=_seconds(environ.get("MODELPORT_IDLE_S", "")),
        job_id=wanted.id or environ.get("MODELPORT_SERVICE") or str(uuid.uuid4()),
        max_queue=given.max_queue,
        batch_wait_s=given.batch_wait_ms / 1000,
        timeout_s=given.timeout_s,
        batch=batch,
        key=environ.pop(KEY, ""),
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(program, description="Serve one model: its port opens at once, and says how far it is.")
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help="the same as --model")
    add("--model", dest="model_flag", default="", metavar="MODEL",
        help="a file or directory, a tar archive, s3://…, az://…, gs://…, hf_model://org/name or org/name")  # fmt: skip
    add("--name", default="", help="the name that answers carry (default: the model's own)")
    add("--task", default="auto", choices=TASKS, help="what it is for (default: what its files say)")
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=int, default=8080, help="port to listen on (%(default)s); 0 is any")
    add("--option", action="append", default=[], metavar="KEY=VALUE", help="a setting of the model's handler")
    add("--bucket", default="", metavar="URI", help="below which media may be read from a cloud (default: none)")
    add("--allow-url", action="append", default=[], metavar="HOST",
        help="a host that media may be fetched from; *.example.com is all below it (default: none)")  # fmt: skip
    add("--idle_timeout_minutes", "--idle-timeout-minutes", type=float, default=30.0,
        help="without a request for so long it ends; 0 is never (%(default)s)")  # fmt: skip
    add("--disable_auto_deletion", "--disable-auto-deletion", action="store_true", help="never end for being idle")
    add("--job", default="", metavar="JSON", help="TAO's payload: job_id, specs.model_path, neural_network_name")
    add("--docker_env_vars", default="", metavar="JSON", help="TAO's environment: an object of its allowed names")
    add("--max-queue", type=int, default=128, help="requests that may wait (%(default)s); more get 429")
    add("--batch", default="", metavar="JSON", help='do a folder once, then end: {"input":…,"results":…,"request":{…}}')
    add("--batch-wait-ms", type=float, default=5.0, help="how long a run waits for requests on their way (%(default)s)")
    add("--timeout-s", type=float, default=300.0, help="longest one request may take (%(default)s)")
    return parser


def _seconds(text: str) -> float:
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d+)?", text) else 0.0


def _option(text: str) -> tuple[str, Scalar]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ModelportError(f"--option must be KEY=VALUE, not {name[:80]!r}.")
    return name.strip(), scalar(value)


def _batch(text: str) -> BatchJob:
    given = literal(text, "--batch")
    for name in given:
        if name not in ("input", "results", "request"):
            raise ModelportError(
                f"--batch has no {name[:80]!r}; it has input, results and request."
                f"{nearest(name, ('input', 'results', 'request'))}"
            )
    folders = [given.get(name) for name in ("input", "results")]
    if not all(isinstance(folder, str) and folder.strip() for folder in folders):
        raise ModelportError("--batch needs 'input' and 'results': directories or cloud URIs.")
    if not isinstance(request := given.get("request", {}), dict):
        raise ModelportError("--batch: 'request' must be an object.")
    return BatchJob(cast(str, folders[0]), cast(str, folders[1]), cast(dict[str, Any], request))


def environment() -> dict[str, str]:
    """A copy of the process's own, for the storage's credentials."""
    return dict(os.environ)
