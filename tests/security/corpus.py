"""Requests that two servers in a row could read differently, as tables. `{key}` stands for a valid key.

Where it fits, the second reading would bring SMUGGLED to an engine.
"""

BODY = b'{"model":"tiny","messages":[{"role":"user","content":"hello"}]}'
START = b"POST /v1/chat/completions HTTP/1.1"
SMUGGLED = b"%b\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: %d\r\n\r\n%b" % (START, len(BODY), BODY)


def post(*lines: bytes, body: bytes = b"", start: bytes = START, host: bytes = b"host: x") -> bytes:
    return b"\r\n".join([start, host, b"x-api-key: {key}", *lines, b"", b""]) + body


def chunked(body: bytes, *lines: bytes) -> bytes:
    return post(b"transfer-encoding: chunked", *lines, body=body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LENGTH = b"content-length: %d" % len(BODY)
END = b"0\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nhost: %b\r\n\r\n"

HOSTS = [
    b"a/b", b"a?b", b"a#b", b"a@b", b"a\\b", b"a b", b"a\tb", b"/", b"?", b"#", b"@", b"\\", b"x/../y", b"x@127.0.0.1",
    b"127.0.0.1:8700@x", b"x:80/modelport/v1/keys", b"x#@y", b"http://x", b"//x", b"x\\@y", b"a, b c", b"user:pw@x",
]  # fmt: skip
TARGETS = [
    b"http://x/healthz", b"HTTP://x/healthz", b"https://127.0.0.1/healthz", b"//x/healthz http://y", b"*", b"x:80", b"healthz",
    b"?x", b"#x", b"file:///etc/passwd", b"\\healthz", b"",
]  # fmt: skip
TWO_HOSTS = [
    [b"host: x", b"host: x"], [b"host: x", b"host: y"], [b"Host: x", b"HOST: y"], [b"host: x", b"host:"],
    [b"host : x"], [b" host: x"], [b"host: x\r\n y"], [b"h\xf6st: x"], [],
]  # fmt: skip

REFUSED = {
    # Two lengths
    "length, then chunks": post(b"content-length: 5", b"transfer-encoding: chunked", body=END + SMUGGLED),
    "chunks, then length": post(b"transfer-encoding: chunked", b"content-length: 5", body=END + SMUGGLED),
    "length longer than chunks": post(b"content-length: 500", b"transfer-encoding: chunked", body=END + SMUGGLED),
    "two lengths alike": post(LENGTH, LENGTH, body=BODY + SMUGGLED),
    "two lengths": post(b"content-length: 0", LENGTH, body=BODY + SMUGGLED),
    "two lengths, the other first": post(LENGTH, b"content-length: 0", body=BODY + SMUGGLED),
    **{
        f"length {value!r}": post(b"content-length: " + value, body=BODY + SMUGGLED)
        for value in (
            b"+63", b"-1", b"-63", b"6 3", b"63, 63", b"63,0", b"0x3f", b"3f", b"63.0", b"6e1", b"", b"63;", b"6_3", b'"63"',
            b"\xef\xbc\x96\xef\xbc\x93", b"18446744073709551679", b"99999999999999999999999", b"63\x0b", b"\x0c63",
        )
    },
    # Other codings
    **{
        f"coding {value!r}": post(b"transfer-encoding: " + value, body=END + SMUGGLED)
        for value in (
            b"chunked, identity", b"identity, chunked", b"identity", b"gzip", b"gzip, chunked", b"chunked, gzip",
            b"xchunked", b"chunkedx", b"chunked;q=1", b"chunked,", b",chunked", b'"chunked"', b"chunked\x0b",
            b"\x0bchunked", b"chun\tked", b"chunked chunked", b"chunked, chunked", b"", b"\x00chunked", b"c\xc4\xb1hunked",
        )
    },
    "coding twice": post(b"transfer-encoding: chunked", b"transfer-encoding: chunked", body=END + SMUGGLED),
    "coding twice, one unknown": post(b"transfer-encoding: chunked", b"transfer-encoding: cow", body=END + SMUGGLED),
    "coding folded": post(b"transfer-encoding:\r\n chunked", body=END + SMUGGLED),
    "coding folded by a tab": post(b"transfer-encoding:\r\n\tchunked", b"content-length: 5", body=END + SMUGGLED),
    "coding, space before its colon": post(b"transfer-encoding : chunked", b"content-length: 5", body=END + SMUGGLED),
    "coding behind a space": post(b" transfer-encoding: chunked", b"content-length: 5", body=END + SMUGGLED),
    "coding behind a bare CR": post(b"x: y\rtransfer-encoding: chunked", b"content-length: 5", body=END + SMUGGLED),
    "coding with a NUL": post(b"transfer-encoding\x00: chunked", b"content-length: 5", body=END + SMUGGLED),
    "coding in HTTP/1.0": post(
        b"transfer-encoding: chunked", b"connection: keep-alive",
        start=START.replace(b"1.1", b"1.0"), body=END + SMUGGLED,
    ),
    # Chunks
    **{
        f"chunk size {size!r}": chunked(size + b"\r\n" + BODY + b"\r\n" + END + SMUGGLED)
        for size in (
            b"-1", b"-3f", b"+3f", b"0x3f", b" 3f", b"3f ", b"3g", b"", b";x", b"3f\x00", b"3f,", b"3f\t", b"\t3f", b"3_f",
            b"1000000000000003f", b"fffffffffffffffff", b"3f\r", b"3f\rx",
        )
    },
    "chunk size by a bare LF": chunked(b"3f\n" + BODY + b"\r\n" + END + SMUGGLED),
    "chunk ended by a bare LF": chunked(b"3f\r\n" + BODY + b"\n" + END + SMUGGLED),
    "chunk ended by a bare CR": chunked(b"3f\r\n" + BODY + b"\r" + END + SMUGGLED),
    "chunk longer than it says": chunked(b"3e\r\n" + BODY + b"\r\n" + END + SMUGGLED),
    "chunk without its end": chunked(b"3f\r\n" + BODY + END + SMUGGLED),
    "extension with a bare LF": chunked(b"3f;a\n" + BODY + b"\r\n" + END + SMUGGLED),
    "extension with a bare CR": chunked(b"3f;a\rb\r\n" + BODY + b"\r\n" + END + SMUGGLED),
    "extension with a NUL": chunked(b"3f;a\x00b\r\n" + BODY + b"\r\n" + END + SMUGGLED),
    "trailer folded": chunked(chunk(BODY) + b"0\r\nx: y\r\n z\r\n\r\n" + SMUGGLED),
    "trailer with a length": chunked(chunk(BODY) + b"0\r\ncontent-length: 500\r\n\r\n" + SMUGGLED),
    "trailer with a coding": chunked(chunk(BODY) + b"0\r\ntransfer-encoding: chunked\r\n\r\n" + SMUGGLED),
    "trailer without colon": chunked(chunk(BODY) + b"0\r\nGET / HTTP/1.1\r\n\r\n" + SMUGGLED),
    # Headers
    "folded": post(b"x: y\r\n z: w", LENGTH, body=BODY + SMUGGLED),
    "folded by a tab": post(b"x: y\r\n\tz: w", LENGTH, body=BODY + SMUGGLED),
    "first header folded": post(LENGTH, host=b" host: x", body=BODY + SMUGGLED),
    "bare CR in a value": post(b"x: y\rz", LENGTH, body=BODY + SMUGGLED),
    "bare CR at a line's end": post(b"x: y\rcontent-length: 0", LENGTH, body=BODY + SMUGGLED),
    "NUL in a value": post(b"x: y\x00z", LENGTH, body=BODY + SMUGGLED),
    "NUL in a name": post(b"x\x00y: z", LENGTH, body=BODY + SMUGGLED),
    "space in a name": post(b"x y: z", LENGTH, body=BODY + SMUGGLED),
    "space before the colon": post(b"x : z", LENGTH, body=BODY + SMUGGLED),
    "tab before the colon": post(b"content-length\t: 5", LENGTH, body=BODY + SMUGGLED),
    "no name": post(b": z", LENGTH, body=BODY + SMUGGLED),
    "no colon": post(b"hello", LENGTH, body=BODY + SMUGGLED),
    "control character in a name": post(b"x\x7f: z", LENGTH, body=BODY + SMUGGLED),
    "umlaut in a name": post(b"\xfcx: z", LENGTH, body=BODY + SMUGGLED),
    "bare LFs": post(LENGTH).replace(b"\r\n", b"\n") + BODY + SMUGGLED,
    "one bare LF": post(b"x: y\ncontent-length: 0", LENGTH, body=BODY + SMUGGLED),
    "head ended by LF LF": post(LENGTH)[:-4] + b"\n\n" + BODY + SMUGGLED,
    "head ended by CR CR": post(LENGTH)[:-4] + b"\r\r" + BODY + SMUGGLED,
    # Request lines
    "HTTP/0.9": b"GET /healthz\r\n\r\n" + SMUGGLED,
    "lower-case method": post(LENGTH, start=START.lower().replace(b"http", b"HTTP"), body=BODY + SMUGGLED),
    "unknown method": post(LENGTH, start=START.replace(b"POST", b"SMUGGLE"), body=BODY + SMUGGLED),
    "lower-case version": post(LENGTH, start=START.replace(b"HTTP", b"http"), body=BODY + SMUGGLED),
    "HTTP/1.2": post(LENGTH, start=START.replace(b"1.1", b"1.2"), body=BODY + SMUGGLED),
    "HTTP/2.0": post(LENGTH, start=START.replace(b"1.1", b"2.0"), body=BODY + SMUGGLED),
    "HTTP/0.9 by name": post(LENGTH, start=START.replace(b"1.1", b"0.9"), body=BODY + SMUGGLED),
    "HTTP/1.1 twice": post(LENGTH, start=START + b" HTTP/1.1", body=BODY + SMUGGLED),
    "version with space": post(LENGTH, start=START.replace(b"HTTP/", b"HTTP /"), body=BODY + SMUGGLED),
    "version with sign": post(LENGTH, start=START.replace(b"1.1", b"+1.1"), body=BODY + SMUGGLED),
    "tabs between": post(LENGTH, start=START.replace(b" ", b"\t"), body=BODY + SMUGGLED),
    "NUL in the target": post(LENGTH, start=START.replace(b"/v1", b"/\x00v1"), body=BODY + SMUGGLED),
    "space first": b" " + post(LENGTH, body=BODY + SMUGGLED),
    "upgrade to h2c": post(b"connection: upgrade, http2-settings", b"upgrade: h2c", LENGTH, body=BODY + SMUGGLED),
    "upgrade to websocket": post(b"connection: upgrade", b"upgrade: websocket", LENGTH, body=BODY + SMUGGLED),
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n" + SMUGGLED,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
}  # fmt: skip
"""Each is answered once, by 4xx, and the connection ends; no engine hears of it."""

UNDERSTOOD = {
    "length": post(LENGTH, body=BODY),
    "length with zeros": post(b"content-length: 0000%d" % len(BODY), body=BODY),
    "length between spaces": post(b"content-length: \t %d \t" % len(BODY), body=BODY),
    "chunks": chunked(chunk(BODY) + END),
    "chunks of one byte": chunked(b"".join(chunk(bytes((byte,))) for byte in BODY) + END),
    "chunks in capitals": post(b"Transfer-Encoding: CHUNKED", body=b"3F\r\n" + BODY + b"\r\n" + END),
    "chunks with zeros": chunked(b"000003f\r\n" + BODY + b"\r\n000\r\n\r\n"),
    "extension": chunked(b'3f;a=b;c="d"\r\n' + BODY + b"\r\n" + END),
    "trailer": chunked(chunk(BODY) + b"0\r\nx-a: b\r\n\r\n"),
    "trailer that means something": chunked(
        chunk(BODY) + b"0\r\nhost: evil\r\nauthorization: Bearer x\r\nx-api-key: x\r\nx-request-id: evil\r\n\r\n"
    ),
    "header with an underscore": post(b"content_length: 500", b"transfer_encoding: chunked", LENGTH, body=BODY),
    "expect": post(b"expect: 100-continue", LENGTH, body=BODY),
    "empty lines first": b"\r\n\r\n" + post(LENGTH, body=BODY),
}  # fmt: skip
"""Each is one request, and what follows on its connection is the next."""
