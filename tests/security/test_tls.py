"""TLS from files: what is served with it, what happens when the files change or are wrong, and two on one socket."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from modelport.errors import ModelportError
from modelport.gateway.certificate import Certificate
from modelport.gateway.server import run
from modelport.gateway.sockets import bind_main
from modelport.settings import Settings
from tests.gateway.world import World, chat, free_port, until


def make(directory: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 under this name."""
    chain, key = directory / f"{name}.crt", directory / f"{name}.key"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", chain,
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return chain, key


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    for name in ("first", "second"):
        make(directory, name)
    return directory


@pytest.fixture
def secure(files: Path, tmp_path: Path) -> Iterator[World]:
    """A gateway with a certificate of its own."""
    chain, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    put(files, "first", tmp_path)
    world = World(tls_cert=chain, tls_key=key, header_timeout=0.7)
    try:
        yield world.gateway()
    finally:
        world.close()


def put(files: Path, name: str, directory: Path) -> None:
    for kind in ("crt", "key"):
        shutil.copy(files / f"{name}.{kind}", directory / "new")
        os.replace(directory / "new", directory / f"tls.{kind}")


def served(port: int, **versions: ssl.TLSVersion) -> tuple[str, str | None, str | None]:
    """The certificate (PEM) that a new connection sees, TLS's version, and the protocol agreed on."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    for name, version in versions.items():
        setattr(context, name, version)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock, context.wrap_socket(sock) as tls:
        der = tls.getpeercert(binary_form=True)
        assert der
        return ssl.DER_cert_to_PEM_cert(der), tls.version(), tls.selected_alpn_protocol()


def test_the_common_port_and_a_services_own_speak_tls(secure: World, files: Path) -> None:
    port = free_port()
    secure.service("tiny", secure.engine("--name", "tiny"), port=port)
    assert secure.url.startswith("https://127.0.0.1:")
    trust = ssl.create_default_context(cafile=str(files / "first.crt"))
    until(lambda: accepts(port))
    with httpx.Client(verify=trust, headers={"x-api-key": secure.admin}) as client:
        for base in (secure.url, f"https://127.0.0.1:{port}"):
            assert client.post(f"{base}/v1/chat/completions", json=chat("tiny")).status_code == 200
            streamed = client.post(f"{base}/v1/chat/completions", json=chat("tiny", stream=True))
            assert streamed.text.rstrip().endswith("data: [DONE]")
    _, version, protocol = served(secure.port)
    assert version == "TLSv1.3" and protocol == "http/1.1"
    assert served(secure.port, maximum_version=ssl.TLSVersion.TLSv1_2)[1] == "TLSv1.2"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        served(secure.port, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)


def accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_what_is_not_tls_is_closed_without_harm(secure: World, files: Path) -> None:
    for data in (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"a" * 100, b"\0" * 5000, b""):
        with secure.raw(data) as sock, contextlib.suppress(ConnectionError):
            while part := sock.recv(65536):
                assert b"HTTP" not in part  # an alert at most
    assert served(secure.port)[0] == (files / "first.crt").read_text()
    assert "Traceback" not in secure.log.read_text() and "ERROR" not in secure.log.read_text()


def test_a_certificate_that_changed_is_served_to_new_connections(secure: World, files: Path, tmp_path: Path) -> None:
    trust = ssl.create_default_context(cafile=str(files / "first.crt"))
    with httpx.Client(verify=trust) as kept:
        assert kept.get(f"{secure.url}/healthz").status_code == 200
        put(files, "second", tmp_path)
        until(lambda: served(secure.port)[0] == (files / "second.crt").read_text())
        assert kept.get(f"{secure.url}/healthz").status_code == 200  # on the connection it has


def test_while_new_files_do_not_fit_the_old_certificate_is_served(secure: World, files: Path, tmp_path: Path) -> None:
    shutil.copy(files / "second.crt", tmp_path / "tls.crt")  # its key is not there yet
    until(lambda: "the old TLS certificate is kept" in secure.log.read_text())
    assert served(secure.port)[0] == (files / "first.crt").read_text()
    (tmp_path / "tls.key").unlink()
    assert served(secure.port)[0] == (files / "first.crt").read_text()
    shutil.copy(files / "second.key", tmp_path / "tls.key")
    until(lambda: served(secure.port)[0] == (files / "second.crt").read_text())
    assert secure.log.read_text().count("the old TLS certificate is kept") == 1


def test_files_that_cannot_be_used_are_one_sentence_at_the_start(files: Path, tmp_path: Path) -> None:
    chain, key = files / "first.crt", files / "first.key"
    locked = tmp_path / "locked.key"
    command = ["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked]
    subprocess.run(command, check=True, capture_output=True)
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    for given, sentence in (
        ({"tls_cert": chain}, "tls_key is not"),
        ({"tls_key": key}, "tls_cert is not"),
        ({"tls_cert": tmp_path / "none.crt", "tls_key": key}, "The tls_cert file"),
        ({"tls_cert": chain, "tls_key": tmp_path}, "The tls_key file"),
        ({"tls_cert": chain, "tls_key": files / "second.key"}, "the key is not the certificate's"),
        ({"tls_cert": key, "tls_key": chain}, "PEM"),
        ({"tls_cert": empty, "tls_key": key}, "PEM"),
        ({"tls_cert": chain, "tls_key": locked}, "without a password"),
    ):
        with pytest.raises(ModelportError) as caught:
            bind_main(Settings(state_dir=tmp_path, port=0, **given))
        assert sentence in caught.value.message, caught.value.message
    assert Certificate.of(Settings(state_dir=tmp_path)) is None


def test_two_gateways_share_one_socket(fresh: World) -> None:
    engine = fresh.engine()
    fresh.service("tiny", engine)
    settings = Settings(state_dir=fresh.directory, port=0)
    sock, url = bind_main(settings)
    children: list[int] = []
    try:
        for _ in range(2):
            told, tell = os.pipe()
            pid = os.fork()
            if not pid:
                try:
                    run(
                        settings,
                        on_ready=lambda _url, tell=tell: os.write(tell, b"ready") and None,
                        listening=(sock, url),
                    )
                finally:
                    os._exit(0)
            children.append(pid)
            assert os.read(told, 5) == b"ready"
            os.close(told)
            os.close(tell)
        headers = {"x-api-key": fresh.admin}
        with contextlib.ExitStack() as stack:
            for _ in range(50):
                client = stack.enter_context(httpx.Client(base_url=url, headers=headers, verify=False))
                assert client.post("/v1/chat/completions", json=chat("tiny")).status_code == 200
        os.kill(children[0], 15)
        os.waitpid(children.pop(0), 0)
        for _ in range(10):  # the other goes on
            assert httpx.get(f"{url}/healthz", verify=False).status_code == 200
    finally:
        sock.close()
        for pid in children:
            os.kill(pid, 15)
            os.waitpid(pid, 0)
    deadline = time.monotonic() + 5
    while fresh.heartbeat() is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert engine.seen()["requests"] == 50
