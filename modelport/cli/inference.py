"""Requests to a service, as any client would make them: through the gateway, with a key."""

import json
import ssl
from collections.abc import Iterator
from typing import Any

import httpx

from modelport.errors import ENGINE_FAULT, Kind, ModelportError
from modelport.settings import load

TIMEOUT = httpx.Timeout(600, connect=5)


def chat(url: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
    """One chat completion, whole. Raises ModelportError with the server's sentence."""
    return _post(f"{url}/chat/completions", key, body)


def embed(url: str, key: str, model: str, text: str) -> dict[str, Any]:
    """One embedding. Raises ModelportError."""
    return _post(f"{url}/embeddings", key, {"model": model, "input": text})


def stream_chat(url: str, key: str, body: dict[str, Any]) -> Iterator[str]:
    """The answer's text, piece by piece. Raises ModelportError, also for an error that comes within the stream."""
    try:
        with (
            httpx.Client(trust_env=False, timeout=TIMEOUT, verify=trusted(url)) as http,
            http.stream(
                "POST", f"{url}/chat/completions", json={**body, "stream": True}, headers=_headers(key)
            ) as answer,
        ):
            if answer.status_code >= 400:
                answer.read()
                raise _error(answer.status_code, answer.content)
            for line in answer.iter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    raise _error(503, line[6:].encode())
                for choice in event["choices"]:
                    if piece := choice["delta"].get("content"):
                        yield piece
    except httpx.HTTPError as error:
        raise ModelportError(f"The answer broke off ({type(error).__name__}); try again.", ENGINE_FAULT) from None


def _post(url: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = httpx.post(
            url, json=body, headers=_headers(key), timeout=TIMEOUT, trust_env=False, verify=trusted(url)
        )
    except httpx.HTTPError as error:
        raise ModelportError(f"The gateway did not answer ({type(error).__name__}); try again.", ENGINE_FAULT) from None
    if answer.status_code >= 400:
        raise _error(answer.status_code, answer.content)
    return answer.json()


def trusted(url: str) -> bool | ssl.SSLContext:
    """How to check this machine's own gateway. With TLS it is asked by its address, which no certificate names; so it
    is the very certificate of the settings that is trusted, and nothing else."""
    certificate = load({})[0].tls_cert if url.startswith("https://") else None
    if certificate is None:
        return True
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _error(status: int, body: bytes) -> ModelportError:
    try:
        error = json.loads(body)["error"]
        return ModelportError(str(error["message"]), Kind(status, str(error["type"]), str(error["code"])))
    except (ValueError, KeyError, TypeError):
        return ModelportError(
            f"The service answered with status {status}.", Kind(status, "engine_error", "engine_fault")
        )
