"""A fake Hub: a real HTTP server that speaks as much of the Hugging Face Hub's protocol as a catalog asks for.

    python -m tests.fakes.hub --port 8890        then: HF_ENDPOINT=http://127.0.0.1:8890 modelport plan Qwen/Qwen3-8B

It has 20 models by the sizes of bench/data/models.jsonl (their true headers, no weights), GGUF repositories and an
adapter, and one repository for each way in which the real one refuses or misbehaves (TROUBLE below). Headers, codes and
messages are those that huggingface_hub's hf_raise_for_status tells apart. GET /served tells requests and bytes of
bodies since POST /served; POST /switch?down=1 makes every other answer a 503, ?move=org/name gives it a new commit.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from bench.truth import config_of_row, rows
from tests.catalog.write_gguf import F16, LLAMA, LLAMA_TENSORS, gguf
from tests.fakes.checkpoint import Sparse, checkpoint

GOOD_TOKEN, OTHER_TOKEN = "hf_good", "hf_without_access"  # one may read all, the other what is public
MODELS = (
    "Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-14B-Instruct-AWQ",
    "Qwen/Qwen2.5-32B-Instruct", "Qwen/Qwen3-8B", "Qwen/Qwen3-32B-AWQ", "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen3-235B-A22B-Instruct-2507", "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8",
    "meta-llama/Llama-2-7b-chat-hf", "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct",
    "meta-llama/Llama-3.1-405B-Instruct", "mistralai/Mistral-Nemo-Instruct-2407",
    "mistralai/Mistral-Large-Instruct-2407", "deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-V2-Lite",
    "google/gemma-3-27b-it", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "zai-org/GLM-4.5",
)  # fmt: skip
SMALL: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 256,
    "max_position_embeddings": 512, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip
PARAMS = {
    "dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "hidden_dim": 128, "vocab_size": 256,
    "max_seq_len": 512,
}  # fmt: skip
TROUBLE = (
    "429",
    "500",
    "slow",
    "drip",
    "short",
    "break",
    "no-ranges",
    "wrong-range",
    "other-size",
    "nonsense",
    "storage",
    "header-drip",
    "redirect-loop",
    "redirect-file",
    "dash-sha",
    "dash-id",
    "no-sizes",
    "surrogate",
    "escape",
)
"""`acme/<word>`: refuses with a status; is silent; sends a byte at a time; a body shorter than said; closes within;
sends whole files; another range; files smaller than said; no JSON; redirects to another host, which must see no token;
sends a header without end; redirects to itself, or to a file of the client's machine; gives a commit or a name that
would be an option on a command line; sizes of no weights; a licence of half a character; one with an escape sequence."""


@dataclass
class Repo:
    files: dict[str, Sparse]
    gated: str = ""
    private: bool = False
    trouble: str = ""
    commit: str = ""
    tags: list[str] = field(default_factory=lambda: ["license:apache-2.0"])


def repositories() -> dict[str, Repo]:
    by_name = {row["model_id"]: row for row in rows("models")}
    found = {name: Repo(checkpoint(config_of_row(by_name[name]))) for name in MODELS}
    small = checkpoint(SMALL)
    found["acme/gated"] = Repo(small, gated="manual")
    found["acme/private"] = Repo(small, private=True)
    for word in TROUBLE:
        found[f"acme/{word}"] = Repo(small, trouble=word)
    tokens = [f"token {n}" for n in range(30_000)]
    model = Sparse.of(gguf({**LLAMA, "tokenizer.ggml.tokens": tokens}, LLAMA_TENSORS))
    first = Sparse.of(gguf({**LLAMA, "split.count": 2}, {"token_embd.weight": ((64, 3), F16)}))
    second = Sparse.of(gguf({"split.count": 2}, {"output.weight": ((64, 3), F16)}))
    several = {"m-Q4_K_M.gguf": model, "m-Q8_0.gguf": model, "mmproj-m-f16.gguf": model}
    several |= {"BF16/m-BF16-00001-of-00002.gguf": first, "BF16/m-BF16-00002-of-00002.gguf": second}
    found["acme/one-gguf"] = Repo({"m-Q4_K_M.gguf": model, "config.json": small["config.json"]})
    found["acme/several-gguf"] = Repo(several)
    found["acme/both"] = Repo(small | several)
    found["acme/empty"] = Repo({"README.md": Sparse.of("nothing")})
    bins = {"pytorch_model.bin": Sparse(b"", 2_000_000), "config.json": small["config.json"]}
    found["acme/pytorch"] = Repo(bins)
    params = {"params.json": Sparse.of(json.dumps(PARAMS)), "consolidated.safetensors": small["model.safetensors"]}
    found["acme/params"] = Repo(params)
    algorithm = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    found["acme/modelopt"] = Repo({**small, "hf_quant_config.json": Sparse.of(json.dumps(algorithm))})
    found["acme/hostile"] = Repo({"../../m.gguf": model, "a/../m.gguf": model, "/etc/m.gguf": model})
    found["acme/part"] = Repo({"config.json": small["config.json"], "model-00001-of-00002.safetensors": model})
    doubled = {"model.fp16.safetensors": small["model.safetensors"], "original/model.safetensors": model}
    found["acme/doubled"] = Repo({**small, **doubled})
    found["acme/pooling"] = Repo({**small, "1_Pooling/config.json": Sparse.of("{}")})
    for name, base in (
        ("adapter", "Qwen/Qwen3-8B"),
        ("adapter-of-path", "/etc"),
        ("adapter-of-adapter", "acme/adapter"),
    ):
        said = {"base_model_name_or_path": base, "r": 16, "peft_type": "LORA"}
        weights = Sparse(b"", 1_000_000)
        files = {"adapter_config.json": Sparse.of(json.dumps(said)), "adapter_model.safetensors": weights}
        found[f"acme/{name}"] = Repo(files)
    for name, repo in found.items():
        repo.commit = hashlib.sha1(name.encode()).hexdigest()
    return found


class FakeHub(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Exchange)
        self.repositories = repositories()
        self.lock = threading.Lock()
        self.requests, self.bytes, self.down = 0, 0, False
        self.tokens_at_storage = 0


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer."""

    protocol_version = "HTTP/1.1"
    server: FakeHub
    timeout = 30

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == "/served":
            self.server.requests = self.server.bytes = self.server.tokens_at_storage = 0
        if "down" in query:
            self.server.down = query["down"] == "1"
        if "move" in query:
            repo = self.server.repositories[query["move"]]
            repo.commit = hashlib.sha1(repo.commit.encode()).hexdigest()
        self.answer(204)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/served":
            state = {key: getattr(self.server, key) for key in ("requests", "bytes", "tokens_at_storage")}
            return self.answer(200, json.dumps(state).encode(), counted=False)
        with self.server.lock:
            self.server.requests += 1
        if self.server.down:
            return self.refuse(503, "", "Service Unavailable")
        path = unquote(url.path)
        if api := re.fullmatch(r"/api/models/((?:[^/]+/)?[^/]+)(?:/revision/(.+))?", path):
            if repo := self.allowed(api[1], api[2] or "main"):
                self.describe(api[1], repo, parse_qs(url.query))
        elif file := re.fullmatch(r"/(stored/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if file[1]:
                self.server.tokens_at_storage += "authorization" in self.headers
                return self.send_file(self.server.repositories[file[2]], file[4])
            if (repo := self.allowed(file[2], file[3])) and self.may_read(file[2], repo):
                if file[4] not in repo.files:
                    return self.refuse(404, "EntryNotFound", "Entry not found")
                if repo.trouble == "storage":  # localhost is another host than 127.0.0.1, as the Hub's storage is
                    place = f"http://localhost:{self.server.server_port}/stored{url.path}"
                    return self.answer(302, headers={"location": place})
                self.send_file(repo, file[4])
        else:
            self.refuse(404, "", "Not Found")

    @property
    def token(self) -> str:
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        return value if kind == "Bearer" else ""  # Basic is for the proxies that mirrors stand behind

    def allowed(self, name: str, revision: str) -> Repo | None:
        """The repository, or None when it was refused."""
        repo = self.server.repositories.get(name)
        if self.token and self.token not in (GOOD_TOKEN, OTHER_TOKEN):
            self.refuse(401, "", "Invalid credentials in Authorization header")
        elif repo is None or (repo.private and self.token != GOOD_TOKEN):
            self.refuse(
                404 if self.token else 401,
                "RepoNotFound",
                "Repository not found" if self.token else "Invalid username or password.",
            )
        elif repo.trouble == "429":
            self.refuse(429, "", "Too many", {"retry-after": "17"})
        elif repo.trouble == "500":
            self.refuse(500, "", "Internal Error")
        elif revision not in ("main", "v1", repo.commit):
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            if repo.trouble == "slow":
                time.sleep(3)
            if repo.trouble in ("redirect-loop", "redirect-file"):
                self.answer(
                    302, headers={"location": self.path if repo.trouble[9:] == "loop" else "file:///etc/passwd"}
                )
                return None
            if repo.trouble == "header-drip":
                self.drip_headers()
                return None
            return repo
        return None

    def drip_headers(self) -> None:
        """A header every now and then, sooner than a client takes for silence."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for n in range(100):
            self.wfile.write(b"x-%d: 1\r\n" % n)
            time.sleep(0.1)

    def may_read(self, name: str, repo: Repo) -> bool:
        if repo.gated and self.token != GOOD_TOKEN:
            self.refuse(403 if self.token else 401, "GatedRepo", f"Access to model {name} is restricted.")
            return False
        return True

    def describe(self, name: str, repo: Repo, query: dict[str, list[str]]) -> None:
        if query.get("expand") == ["sha"]:
            return self.answer(200, json.dumps({"id": name, "sha": repo.commit}).encode())
        files = [{"rfilename": file, "size": sparse.size, "blobId": "0"} for file, sparse in repo.files.items()]
        for file in files if repo.trouble == "no-sizes" else ():
            file["size"] = None if str(file["rfilename"]).endswith(".safetensors") else file["size"]
        body = {"id": name, "sha": repo.commit, "siblings": files, "tags": repo.tags, "private": repo.private}
        body |= {"dash-sha": {"sha": "--enforce-eager"}, "dash-id": {"id": "--enforce-eager"}}.get(repo.trouble, {})
        licences = {"surrogate": "\ud800mit", "escape": "\x1b[31mmit"}
        body |= {"tags": [f"license:{licences[repo.trouble]}"]} if repo.trouble in licences else {}
        body |= {"gated": repo.gated or False, "config": {"model_type": "llama", "tokenizer_config": {}}}
        self.answer(200, b"<html>" if repo.trouble == "nonsense" else json.dumps(body).encode())

    def send_file(self, repo: Repo, name: str) -> None:
        file = repo.files[name]
        size = file.size // 2 if repo.trouble == "other-size" else file.size
        headers = {"x-repo-commit": repo.commit, "etag": f'"{hashlib.sha1(file.head).hexdigest()}"'}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        if not asked or repo.trouble == "no-ranges":
            return self.answer(200, file.read(0, min(size, 1 << 26)), headers)
        start, end = int(asked[1]), min(int(asked[2]), size - 1)
        if start >= size:
            return self.answer(416, headers={"content-range": f"bytes */{size}"})
        if repo.trouble == "wrong-range":
            start, end = start + 1, end + 1
        body = file.read(start, end - start + 1)
        headers["content-range"] = f"bytes {start}-{end}/{size}"
        if repo.trouble == "short":
            body = body[: len(body) // 2]
        if repo.trouble == "break":
            headers["content-length"] = str(len(body))
            body = body[: len(body) // 2]
        self.answer(206, body, headers, byte_s=0.3 if repo.trouble == "drip" else 0)

    def refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        errors = {"x-error-code": code, "x-error-message": message} if code else {"x-error-message": message}
        self.answer(status, json.dumps({"error": message}).encode(), errors | (headers or {}))

    def answer(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        byte_s: float = 0,
        counted: bool = True,
    ) -> None:
        self.send_response(status)
        for key, value in ({"content-length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if counted:
            with self.server.lock:
                self.server.bytes += len(body)
        for piece in [body] if not byte_s else [body[i : i + 1] for i in range(len(body))]:
            self.wfile.write(piece)
            time.sleep(byte_s)
        if "content-length" in (headers or {}):
            self.close_connection = True

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # the client left

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Running:
    """The fake as a process, seen from a test."""

    url: str
    client: httpx.Client

    def served(self) -> dict[str, int]:
        """Requests and bytes since the last `reset`."""
        return self.client.get("/served").json()

    def reset(self) -> None:
        self.client.post("/served")

    def switch(self, **what: str) -> None:
        self.client.post("/switch", params=what)


@contextmanager
def running_hub() -> Iterator[Running]:
    """A fake Hub of its own, on any free port."""
    hub = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.hub", "--port", "0"],
        cwd=Path(__file__).parent.parent.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert hub.stdout
        url = hub.stdout.readline().split()[-1]
        with httpx.Client(base_url=url) as client:
            yield Running(url, client)
    finally:
        hub.kill()
        hub.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A fake Hugging Face Hub on loopback.")
    parser.add_argument("--port", type=int, default=8890)
    hub = FakeHub(parser.parse_args().port)
    print(f"fake hub at http://127.0.0.1:{hub.server_port}", flush=True)
    hub.serve_forever()


if __name__ == "__main__":
    main()
