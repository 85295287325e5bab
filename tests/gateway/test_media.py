"""Media: what is counted, what is refused, and that nothing but the public internet is ever reached for it.

The server is real, and so are resolving, pinning, TLS and redirects: only where a public address leads to is ours.
"""

import asyncio
import base64
import contextlib
import json
import ssl
import struct
import subprocess
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import ModelportError
from modelport.gateway.media import MediaCount, MediaPolicy, admit_media
from modelport.media.fetch import Network, connect, parse, public
from modelport.media.picture import Short, size

PUBLIC = "93.184.215.14"


def png(width: int = 2, height: int = 3) -> bytes:
    head = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))


def jpeg(width: int, height: int, before: bytes = b"") -> bytes:
    return (
        b"\xff\xd8\xff\xe0\0\x04ab" + before + b"\xff\xc2\0\x0b\x08" + struct.pack(">2H", height, width) + b"\x01" * 9
    )


def gif(width: int, height: int, frame: tuple[int, int] = (1, 1)) -> bytes:
    head = b"GIF89a" + struct.pack("<2H3B", width, height, 0x80, 0, 0) + b"\0" * 6
    return head + b"!\xf9\x04\0\0\0\0\0" + b"," + struct.pack("<4H", 0, 0, *frame) + b"\0"


def webp(kind: bytes, data: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + kind + struct.pack("<I", len(data)) + data


WAV = b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 40
MP4 = b"\0\0\0\x18ftypisom" + b"\0" * 40


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{b64(data)}"


def chat(*parts: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": list(parts)}]}


def image(url: Any) -> dict[str, Any]:
    return chat({"type": "image_url", "image_url": {"url": url}})


def admit(body: dict[str, Any], policy: MediaPolicy = MediaPolicy()) -> tuple[bool, MediaCount]:  # noqa: B008 - frozen
    return asyncio.run(admit_media(body, policy))


def refusal(body: dict[str, Any], policy: MediaPolicy = MediaPolicy()) -> ModelportError:  # noqa: B008 - frozen
    with pytest.raises(ModelportError) as caught:
        admit(body, policy)
    return caught.value


# Pictures


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (png(640, 480), (640, 480)),
        (jpeg(640, 480), (640, 480)),
        (jpeg(7, 9, b"\xff\xe1\xff\xff" + b"\xff" * 65533), (7, 9)),
        (gif(10, 20), (10, 20)),
        (gif(1, 1, (60000, 60000)), (60000, 60000)),
        (webp(b"VP8X", b"\0" * 4 + b"\x7f\x02\0" + b"\xdf\x01\0"), (640, 480)),
        (webp(b"VP8L", b"\x2f" + struct.pack("<I", 639 | 479 << 14)), (640, 480)),
        (webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<2H", 640, 480 | 0x4000)), (640, 480)),
        (png(0, 5), None),
        (b"<svg/>", None),
        (b"\xff\xd8\xff\xd9" + b"\0" * 9, None),
        (webp(b"XXXX", b"\0" * 20), None),
    ],
)
def test_the_size_of_a_picture_is_what_its_header_says(data: bytes, found: Any) -> None:
    assert size(data) == found


@given(st.sampled_from([png(), jpeg(1, 2), gif(3, 4), webp(b"VP8X", b"\0" * 12)]), st.binary(max_size=80), st.data())
def test_no_bytes_make_the_readers_fail(start: bytes, rest: bytes, data: Any) -> None:
    for tried in (start[: data.draw(st.integers(0, len(start)))] + rest, rest):
        try:
            found = size(tried)
        except Short:
            continue
        assert found is None or all(0 < side <= 2**32 for side in found)


# What comes in the body

BODIES: list[tuple[dict[str, Any], MediaCount]] = [
    (image(data_url(png())), MediaCount(images=1, pixels=6, total_bytes=33)),
    (chat({"image_url": data_url(png())}), MediaCount(images=1, pixels=6, total_bytes=33)),  # as vLLM takes it too
    (chat({"type": "input_audio", "input_audio": {"data": b64(WAV), "format": "wav"}}),
     MediaCount(audios=1, audio_bytes=56, total_bytes=56)),
    (chat({"type": "video_url", "video_url": {"url": data_url(MP4, "video/mp4")}}),
     MediaCount(videos=1, video_bytes=52, total_bytes=52)),
    (chat({"type": "file", "file": {"filename": "a.pdf", "file_data": data_url(b"%PDF", "application/pdf")}}),
     MediaCount(files=1, total_bytes=4)),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": data_url(png())}]}]},
     MediaCount(images=1, pixels=6, total_bytes=33)),
    ({"input": [{"type": "function_call_output", "output": [{"type": "input_image", "image_url": data_url(png())}]}]},
     MediaCount(images=1, pixels=6, total_bytes=33)),
    (chat({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": b64(png())}}),
     MediaCount(images=1, pixels=6, total_bytes=33)),
    (chat({"type": "tool_result", "content": [{"type": "image", "source": {"type": "base64", "data": b64(png())}}]}),
     MediaCount(images=1, pixels=6, total_bytes=33)),
    (chat({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": b64(b"%PDF")}}),
     MediaCount(files=1, total_bytes=4)),
    ({"text": "a", "image_data": [b64(png()), data_url(png())]}, MediaCount(images=2, pixels=12, total_bytes=66)),
    ({"prompt": {"prompt_string": "a", "multimodal_data": [b64(png())]}},
     MediaCount(images=1, pixels=6, total_bytes=33)),
    # Not media:
    (chat({"type": "text", "text": "see http://x/a.png, file:///etc/passwd and data:,x"}), MediaCount()),
    (chat({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a: b"}}), MediaCount()),
    ({"messages": "hello", "audio": {"voice": "alloy", "format": "wav"}, "source": "x"}, MediaCount()),
    ({"tools": [{"function": {"parameters": {"properties": {"image_url": {"type": "string", "url": "http://x"}}}}}]},
     MediaCount()),
    (chat({"type": "tool_use", "input": {"image_url": "http://example.com/a.png"}}), MediaCount()),
    ({"messages": [{"role": "assistant", "audio": {"id": "a1"}, "tool_calls": [{"image_url": "http://x"}]}]},
     MediaCount()),
]  # fmt: skip


@pytest.mark.parametrize(("body", "count"), BODIES, ids=range(len(BODIES)))
def test_media_are_found_and_counted_wherever_an_engine_would_read_them(
    body: dict[str, Any], count: MediaCount
) -> None:
    before = json.dumps(body)
    assert admit(body) == (count.items > 0, count)
    assert json.dumps(body) == before


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "http": (image("http://93.184.215.14/a.png"), "fetches no addresses"),
    "https": (image("https://example.com/a.png"), "fetches no addresses"),
    "bare string": (chat({"image_url": "https://example.com/a.png"}), "fetches no addresses"),
    "file": (image("file:///etc/passwd"), "data: URL"),
    "path": (image("/etc/passwd"), "data: URL"),
    "ftp": (image("ftp://example.com/a.png"), "data: URL"),
    "no scheme": (image("//example.com/a.png"), "data: URL"),
    "upper case": (image("DATA:image/png;base64," + b64(png())), "data: URL"),
    "space first": (image(" data:image/png;base64," + b64(png())), "data: URL"),
    "base64 where a URL goes": (image(b64(png())), "data: URL"),
    "video": (chat({"video_url": {"url": "https://example.com/a.mp4"}}), "fetches no addresses"),
    "audio": (chat({"audio_url": {"url": "s3://a/b"}}), "workspace"),
    "audio path": (chat({"input_audio": {"data": "/data/secret/a/wav", "format": "wav"}}), "base64"),
    "audio path that is base64": (chat({"input_audio": {"data": "/data/secret/wav", "format": "wav"}}), "sound"),
    "file url": ({"input": [{"type": "input_file", "file_url": "http://169.254.169.254/"}]}, "fetches no"),
    "anthropic url": (chat({"type": "image", "source": {"type": "url", "url": "http://10.0.0.1/"}}), "fetches no"),
    "sglang path": ({"text": "a", "image_data": "/data/x.png"}, "base64"),
    "sglang path that is base64": ({"text": "a", "image_data": ["/home/secretpng"]}, "base64"),
    "sglang nested": ({"text": ["a"], "image_data": [["http://127.0.0.1/"]]}, "fetches no"),
    "deep": (chat({"type": "tool_result", "content": [{"image_url": {"url": "file:/x"}}]}), "data: URL"),
    "tensor": (chat({"type": "image_embeds", "image_embeds": "gASV"}), "tensors"),
    "prompt tensor": ({"prompt_embeds": ["gASV"]}, "tensors"),
    "svg": (image(data_url(b"<svg xmlns='x'><image href='http://127.0.0.1/'/></svg>", "image/svg+xml")), "PNG"),
    "html": (image(data_url(b"<html>", "text/html")), "PNG"),
    "text": (image("data:,hello"), "base64"),
    "percent": (image("data:image/png,%89PNG"), "base64"),
    "no comma": (image("data:image/png;base64"), "base64"),
    "not base64": (image("data:image/png;base64,@@@@"), "base64"),
    "unpadded": (image("data:image/png;base64," + b64(png())[:-3]), "base64"),
    "empty": (image("data:image/png;base64,"), "PNG"),
    "half a picture": (image(data_url(png()[:20])), "PNG"),
    "picture bomb": (image(data_url(png(100_000, 100_000))), "100000 × 100000 pixels"),
    "gif bomb": (image(data_url(gif(1, 1, (65535, 65535)))), "pixels"),
    "sound that is text": (chat({"input_audio": {"data": b64(b"hello there, all")}}), "sound"),
    "number of media": (chat(*[{"image_url": data_url(png())}] * 33), "32 images"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_an_engine_could_be_made_to_open_is_refused(body: dict[str, Any], sentence: str) -> None:
    error = refusal(body)
    assert sentence in error.message and error.kind.status == 400


def test_bytes_are_capped_for_all_media_together_without_decoding_them() -> None:
    policy = MediaPolicy(max_bytes=100)
    assert admit(chat(*[{"image_url": data_url(png())}] * 3), policy)[1].total_bytes == 99
    assert refusal(chat(*[{"image_url": data_url(png())}] * 4), policy).kind.status == 413
    assert refusal(image("data:image/png;base64," + "A" * (64 << 20))).kind.status == 413


# Addresses

NOT_ADDRESSES = [
    "http://example.com\\@127.0.0.1/", "http:\\\\example.com/", "http:/example.com/", "http:///example.com/",
    "http://user@example.com/", "http://user:pw@example.com/", "http://example.com@127.0.0.1/", "http://@example.com/",
    "http://example.com#@127.0.0.1/\n", "http://exa\tmple.com/", "http://example.com/\r\nx: y", "http://example.com/a b",
    "http://example.com\0.evil.org/", "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/",
    "http://017700000001/", "http://127.1/", "http://127.0.1/", "http://0/", "http://127.0.0.01/", "http://1.2.3.4.5/",
    "http://0x7f.0x0.0x0.0x1/", "http://example.0x10/", "http://localhost/", "http://metadata/", "http://[::1/", "http://::1/",
    "http://[::1]evil.org/", "http://[fe80::1%25eth0]/", "http://[v1.x]/", "http://[127.0.0.1]/", "http://[]/",
    "http://example.com:/x:80", "http://example.com:port/", "http://example.com:0/", "http://example.com:65536/",
    "http://example.com:8e1/", "http://exämple.com/", "http://ⓔxample.com/", "http://127。0。0。1/", "http://１２７.0.0.1/",
    "http://example%2ecom/", "http://%31%32%37.0.0.1/", "http://.example.com/", "http://example..com/", "http://-a.com/",
    "http://example.com../", "http:// example.com/", "http://", "http://?x", "HTTP://example.com/", "ftp://example.com/",
    "file:///etc/passwd", "gopher://example.com/", "javascript:alert(1)", "//example.com/", "jar:http://example.com!/",
    "dict://example.com:11211/", "http://" + "a" * 64 + ".com/", "http://example.com/" + "a" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("url", NOT_ADDRESSES)
def test_what_two_parsers_could_read_differently_is_no_address(url: str) -> None:
    with pytest.raises(ModelportError):
        parse(url)


@given(st.text(max_size=60))
def test_an_address_that_is_parsed_has_a_host_that_is_a_name_or_an_ip(text: str) -> None:
    for url in (text, "http://" + text, "https://example.com" + text):
        try:
            found = parse(url)
        except ModelportError:
            continue
        assert not set(found.host) & set("@\\/?#%[] \t\r\n") and found.target.startswith("/")
        assert found.target.isprintable() and " " not in found.target


CLOSED = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1",
    "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "fe80::1", "fe80::1%1", "fc00::1", "fd00:ec2::254",
    "fec0::1", "ff02::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:808:808::",
    "2001:0:53aa:64c:0:0:80ff:fffe", "2001:db8::1", "2001:10::1", "3fff::1", "5f00::1", "100::1", "", "localhost",
]  # fmt: skip


@pytest.mark.parametrize("ip", CLOSED)
def test_an_address_that_is_not_public_is_closed(ip: str) -> None:
    assert not public(ip)


@pytest.mark.parametrize("ip", ["8.8.8.8", PUBLIC, "2606:4700:4700::1111", "2a00:1450:4001::1", "64:ff9b::808:808"])
def test_a_public_address_is_open(ip: str) -> None:
    assert public(ip)


# Fetching


class Server(ThreadingHTTPServer):
    """What a path has: status, headers, body. `asked` is every request with the Host it was asked under."""

    def __init__(self) -> None:
        server = self
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.stall = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                server.asked.append((self.path, self.headers["host"]))
                if self.path == "/stall":
                    server.stall.wait(10)
                status, headers, body = server.pages.get(self.path, (404, {}, b""))
                self.send_response(status)
                length = {} if "transfer-encoding" in headers else {"content-length": str(len(body))}
                for name, value in (length | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True

    def page(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = (status, {"content-type": "image/png"} | named, body)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.page("/a.png", png())
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.stall.set()
    server.shutdown()
    server.server_close()


class Net:
    """An internet of one server: the public address leads there, and every connection is noted."""

    def __init__(self, server: Server, **names: list[list[str]]) -> None:
        self.names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.reached: list[tuple[str, int]] = []
        self.server = server

    async def resolve(self, host: str, port: int) -> list[str]:
        answers = self.names.get(host)
        if answers is None:
            raise OSError("not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def connect(self, ip: str, port: int, timeout_s: float | None) -> Any:
        self.reached.append((ip, port))
        assert ip == PUBLIC, "only public addresses may be reached"
        return await connect("127.0.0.1", self.server.server_port, timeout_s)

    def policy(self, **more: Any) -> MediaPolicy:
        trust = more.pop("authorities", None)
        network = Network(resolve=self.resolve, connect=self.connect, authorities=trust)
        return MediaPolicy(**{"urls": "any", "network": network, "timeout_s": 5, **more})


def test_an_address_is_fetched_and_replaced_by_what_it_holds(server: Server) -> None:
    net = Net(server, pics_example_com=[[PUBLIC]], xn__bcher_kva_example=[[PUBLIC]])
    body = chat(
        {"image_url": {"url": "http://pics.example.com/a.png", "detail": "low"}},
        {"type": "image", "source": {"type": "url", "url": "http://PICS.example.com./a.png?x=1#y"}},
    )
    server.page("/a.png?x=1", png())
    assert admit(body, net.policy()) == (True, MediaCount(images=2, pixels=12, total_bytes=66))
    first, second = body["messages"][0]["content"]
    assert first["image_url"] == {"url": data_url(png()), "detail": "low"}
    assert second["source"] == {"type": "base64", "media_type": "image/png", "data": b64(png())}
    assert sorted(server.asked) == [("/a.png", "pics.example.com"), ("/a.png?x=1", "pics.example.com")]


def test_listed_hosts_only_are_asked_when_there_is_a_list(server: Server) -> None:
    net = Net(server, pics_example_com=[[PUBLIC]], example_com=[[PUBLIC]], evilexample_com=[[PUBLIC]])
    policy = net.policy(urls="listed", hosts=("*.example.com",))
    assert admit(image("http://pics.example.com/a.png"), policy)[0]
    for url in ("http://example.com/a.png", "http://evilexample.com/a.png", f"http://{PUBLIC}/a.png"):
        assert "does not fetch" in refusal(image(url), policy).message
    assert len(net.reached) == 1


@pytest.mark.parametrize("ip", CLOSED[:-2])
def test_a_name_with_one_answer_that_is_not_public_is_not_asked(server: Server, ip: str) -> None:
    net = Net(server, pics_example_com=[[PUBLIC, ip]])
    error = refusal(image("http://pics.example.com/a.png"), net.policy())
    assert "does not fetch" in error.message and ip not in error.message and not net.reached


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "http://169.254.169.254/latest/meta-data/", "http://[::1]/", "http://[::ffff:127.0.0.1]/",
     "http://0.0.0.0/", "http://metadata.google.internal/", "http://unknown.example.com/", f"http://{PUBLIC}:22/",
     f"http://{PUBLIC}:8080/", "https://127.0.0.1./", "http://localhost.localdomain/", "http://[64:ff9b::7f00:1]/"],
)  # fmt: skip
def test_private_places_and_odd_ports_are_refused_in_the_words_used_for_unknown_names(server: Server, url: str) -> None:
    net = Net(server, metadata_google_internal=[["169.254.169.254"]], localhost_localdomain=[["127.0.0.1"]])
    assert refusal(image(url), net.policy()).message.startswith("This gateway does not fetch media from '")
    assert not net.reached


def test_a_name_that_changes_its_answer_is_asked_once_and_reached_where_it_was_checked(server: Server) -> None:
    net = Net(server, rebind_example_com=[[PUBLIC], ["127.0.0.1"]])
    assert admit(image("http://rebind.example.com/a.png"), net.policy())[0]
    assert net.reached == [(PUBLIC, 80)]
    assert "does not fetch" in refusal(image("http://rebind.example.com/a.png"), net.policy()).message


@pytest.mark.parametrize(
    "onward",
    ["http://127.0.0.1/a.png", "http://localhost/a.png", "http://inner.example.com/a.png", "file:///etc/passwd",
     "//127.0.0.1/a.png", "http://user@pics.example.com/a.png", "http://pics.example.com\\@127.0.0.1/", "http://[::1",
     "ftp://pics.example.com/a.png", "http://2130706433/", "http://pics.example.com:8700/modelport/v1/keys"],
)  # fmt: skip
def test_a_redirect_goes_through_the_same_checks(server: Server, onward: str) -> None:
    net = Net(server, pics_example_com=[[PUBLIC]], inner_example_com=[["10.0.0.1"]])
    server.page("/go", status=302, location=onward)
    refusal(image("http://pics.example.com/go"), net.policy())
    assert net.reached == [(PUBLIC, 80)]


def test_three_redirects_are_followed_and_no_more(server: Server) -> None:
    net = Net(server, pics_example_com=[[PUBLIC]])
    for step in range(4):
        server.page(f"/{step}", status=307, location="/a.png" if step == 3 else f"http://pics.example.com/{step + 1}")
    assert admit(image("http://pics.example.com/1"), net.policy())[0]
    assert "more than 3 times" in refusal(image("http://pics.example.com/0"), net.policy()).message


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ((b"<html>", 200, {"content_type": "text/html"}), "not of type image"),
        ((png(), 200, {"content_type": "audio/wav"}), "not of type image"),
        ((png(), 200, {"content_type": "image/png\tx"}), "not of type image"),
        ((b"<svg/>", 200, {"content_type": "image/svg+xml"}), "PNG"),
        ((png()[:18], 200, {}), "PNG"),
        ((png(), 500, {}), "answered 500"),
        ((png(), 302, {}), "answered 302"),
        ((png(), 206, {}), "answered 206"),
        ((zlib.compress(png()), 200, {"content_encoding": "gzip"}), "compressed"),
        ((png(100_000, 100_000), 200, {}), "pixels"),
        ((png() + b"\0" * 5000, 200, {}), "larger than"),
        ((png() + b"\0" * 5000, 200, {"content_length": "33"}), ""),
        ((png(), 200, {"content_length": "9999999999999"}), "larger than"),
        ((png(), 200, {"content_length": "500"}), "could not be fetched"),
    ],
)
def test_what_is_no_medium_is_refused(server: Server, page: Any, sentence: str) -> None:
    net = Net(server, pics_example_com=[[PUBLIC]])
    body, status, headers = page
    server.page("/x", body, status, **headers, connection="close")
    if sentence:
        assert sentence in refusal(image("http://pics.example.com/x"), net.policy(max_bytes=1000)).message
    else:
        assert admit(image("http://pics.example.com/x"), net.policy(max_bytes=1000))[1].total_bytes == 33


def test_a_body_without_a_length_is_cut_at_the_cap(server: Server) -> None:
    net = Net(server, pics_example_com=[[PUBLIC]])
    server.page("/x", b"1000\r\n" + png() + b"\0" * (4096 - 33) + b"\r\n", transfer_encoding="chunked")
    assert "larger than" in refusal(image("http://pics.example.com/x"), net.policy(max_bytes=1000)).message


def test_a_server_that_says_nothing_is_left_in_time(server: Server) -> None:
    net = Net(server, pics_example_com=[[PUBLIC]])
    assert "within 0.2 s" in refusal(image("http://pics.example.com/stall"), net.policy(timeout_s=0.2)).message


def test_files_and_raw_base64_fields_are_never_fetched(server: Server) -> None:
    net = Net(server, pics_example_com=[[PUBLIC]])
    url = "http://pics.example.com/a.png"
    for part in ({"file_url": url}, {"input_audio": {"data": url}}, {"file": {"file_data": url}}):
        assert "must be base64" in refusal(chat(part), net.policy()).message
    assert not net.reached


def test_https_is_verified_for_the_name_though_the_connection_goes_to_an_address(
    server: Server, tmp_path: Path
) -> None:
    chain, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=pics", "-addext", "subjectAltName=DNS:pics.example.com", "-keyout", key, "-out", chain],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    net = Net(server, pics_example_com=[[PUBLIC]], other_example_com=[[PUBLIC]])
    policy = net.policy(authorities=ssl.create_default_context(cafile=str(chain)))
    assert admit(image("https://pics.example.com/a.png"), policy)[0]
    assert "could not be fetched" in refusal(image("https://other.example.com/a.png"), policy).message
    assert "could not be fetched" in refusal(image("https://pics.example.com/a.png"), net.policy()).message
    server.page("/down", status=302, location="http://pics.example.com/a.png")
    assert "from https to http" in refusal(image("https://pics.example.com/down"), policy).message
    assert {port for _, port in net.reached} == {443}
