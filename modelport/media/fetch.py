"""Fetch: media from an address that a stranger wrote, without reaching anything that is not public.

The address is parsed once, by rules so narrow that no other parser can read it differently. Its name is resolved once;
every answer must be a public address, and the connection goes to one of those, so a name that changes its answer
changes nothing. TLS is for the name. Redirects go through all of this again.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from modelport.errors import TOO_LARGE, ModelportError

if TYPE_CHECKING:
    from httpcore import AsyncNetworkStream

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to every address of it. Raises OSError."""
Connect = Callable[[str, int, float | None], "Awaitable[AsyncNetworkStream]"]
"""Address, port and timeout in seconds to a stream."""
MAX_REDIRECTS = 3
MAX_URL_CHARS = 4096
PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?"
                  r"(?P<target>[/?][!$%&'()*+,\-./0-9:;=?@A-Z_a-z~]*)?(?:#[!-~]*)?")  # fmt: skip
"""No userinfo, no backslash, no control character, nothing that is not ASCII."""
_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
"""A last label that begins with a letter is no number in any base, so no resolver takes the name for an address."""
_TYPE = re.compile(r"(image|audio|video)/[a-z0-9][a-z0-9.+-]{0,60}")
KINDS = {"media": ("image", "video")}
CLOSED = tuple(
    ip_network(text)
    for text in (
        "168.63.129.16/32",  # Azure's metadata server, which has a public address
        "192.0.0.0/24",  # IETF protocol assignments; Oracle's metadata server is in it
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "2001::/23",  # protocol assignments, Teredo first of all: an IPv4 address is inside
        "2002::/16",  # 6to4: an IPv4 address is inside
        "3fff::/20",  # documentation (RFC 9637)
    )
)
"""What Python's `is_global` lets pass, and must not."""
NAT64 = ip_network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address that is reached, so that one decides."""
UNICAST6 = ip_network("2000::/3")


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says: scheme, lower-case name or IP address, port, and path with query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.target}"


async def resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def connect(ip: str, port: int, timeout_s: float | None) -> "AsyncNetworkStream":
    from httpcore import AnyIOBackend

    return await AnyIOBackend().connect_tcp(ip, port, timeout=timeout_s)


@dataclass(frozen=True, slots=True)
class Network:
    """By what means is fetched. `authorities` is who signs certificates; None is the usual ones."""

    ports: frozenset[int] = frozenset(PORTS.values())
    resolve: Resolve = resolve
    connect: Connect = connect
    authorities: ssl.SSLContext | None = None


async def fetch(
    url: str, kind: str, max_bytes: int, hosts: tuple[str, ...] | None, network: Network
) -> tuple[str, bytes]:
    """The content type (`image/png`) and bytes at a URL; `kind` is image, audio, video or media (image or video).
    `hosts` are the names that may be asked (`*.example.com` is all below that); None is every public one.

    Raises ModelportError (400, 413) with a sentence that does not tell what the name resolves to. No time limit of its
    own: the caller sets one.
    """
    address = parse(url)
    for _ in range(MAX_REDIRECTS + 1):
        if address.port not in network.ports or not (hosts is None or listed(address.host, hosts)):
            raise _closed(address)
        found = await _get(address, kind, max_bytes, network)
        if not isinstance(found, str):
            return found
        try:
            onward = parse(urljoin(address.url, found))
        except ValueError:
            raise _failed(address) from None
        if address.scheme == "https" and onward.scheme == "http":
            raise ModelportError(f"The media at '{address.host}' redirect from https to http.")
        address = onward
    raise ModelportError(f"The media at '{address.host}' redirect more than {MAX_REDIRECTS} times.")


def parse(url: str) -> Address:
    """Take a URL apart. Raises ModelportError (400) for anything that another parser might read in another way."""
    found = _URL.fullmatch(url) if len(url) <= MAX_URL_CHARS else None
    if found is None:
        raise ModelportError(
            "An address of media must be a plain http:// or https:// URL: ASCII, at most "
            f"{MAX_URL_CHARS} characters, without user name, spaces or backslashes."
        )
    scheme, host = found["scheme"], found["host"].lower().removesuffix(".")
    if not _literal(host) and _NAME.fullmatch(host) is None:
        raise ModelportError("The host in an address of media must be a full name or a plain IP address.")
    port = int(found["port"] or PORTS[scheme])
    if not 0 < port < 65536:
        raise ModelportError(f"The port {port} in an address of media does not exist.")
    target = found["target"] or "/"
    return Address(scheme, host.strip("[]"), port, target if target.startswith("/") else "/" + target)


def _literal(host: str) -> bool:
    """Whether it is an IP address in its one usual spelling (IPv4), or any legal one in brackets (IPv6)."""
    try:
        return ip_address(host.strip("[]")).version == (6 if host.startswith("[") else 4)
    except ValueError:
        return False


def public(text: str) -> bool:
    """Whether this IP address belongs to the public internet and to nothing that lies behind it."""
    try:
        ip = ip_address(text)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip in NAT64:
            return public(str(IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip not in UNICAST6:  # loopback, mapped, link-local, unique-local, multicast
            return False
    closed = any(ip.version == net.version and ip in net for net in CLOSED)
    return ip.is_global and not (closed or ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def listed(host: str, names: Iterable[str]) -> bool:
    """Whether a lower-case host is one of the names; `*.example.com` is every name below example.com."""
    return any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in names)


async def _get(address: Address, kind: str, max_bytes: int, network: Network) -> tuple[str, bytes] | str:
    """Content type and bytes, or where it redirects to."""
    import httpcore

    try:
        ips = [address.host] if _is_ip(address.host) else await network.resolve(address.host, address.port)
    except (OSError, UnicodeError):
        ips = []
    if not ips or not all(map(public, ips)):
        raise _closed(address)  # in the same words for a name that is not known: nobody learns ours by asking
    url = httpcore.URL(
        scheme=address.scheme.encode(),
        host=address.host.encode(),
        port=None if address.port == PORTS[address.scheme] else address.port,
        target=address.target.encode(),
    )
    headers = [
        (b"accept", ", ".join(f"{each}/*" for each in KINDS.get(kind, (kind,))).encode()),
        (b"accept-encoding", b"identity"),
        (b"user-agent", b"modelport"),
    ]
    trust, backend = network.authorities or _usual(), _pinned(ips, network.connect)
    try:
        async with (
            httpcore.AsyncConnectionPool(trust, max_connections=1, network_backend=backend) as pool,
            pool.stream("GET", url, headers=headers) as answer,
        ):
            return await _content(answer, address, kind, max_bytes)
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError):
        raise _failed(address) from None


@cache
def _usual() -> ssl.SSLContext:
    """Made once: it takes 20 ms."""
    import httpcore

    return httpcore.default_ssl_context()


async def _content(answer: Any, address: Address, kind: str, max_bytes: int) -> tuple[str, bytes] | str:
    host = address.host
    headers = {name.lower(): value.decode("latin-1") for name, value in answer.headers}
    if answer.status in (301, 302, 303, 307, 308) and b"location" in headers:
        return headers[b"location"]
    if answer.status != 200:
        raise ModelportError(f"'{host}' answered {answer.status} where media should be.")
    if headers.get(b"content-encoding", "identity") != "identity":
        raise ModelportError(f"The media at '{host}' are compressed once more on their way, which is not read.")
    type_ = headers.get(b"content-type", "").partition(";")[0].strip().lower()
    if _TYPE.fullmatch(type_) is None or type_.partition("/")[0] not in KINDS.get(kind, (kind,)):
        raise ModelportError(f"What '{host}' has at this address is not of type {kind}.")
    too_large = ModelportError(f"The media at '{host}' are larger than the {max_bytes} bytes left.", TOO_LARGE)
    declared = headers.get(b"content-length", "0")
    if not declared.isdigit() or int(declared) > max_bytes:
        raise too_large
    parts: list[bytes] = []
    size = 0
    async for part in answer.aiter_stream():
        size += len(part)
        if size > max_bytes:
            raise too_large
        parts.append(part)
    return type_, b"".join(parts)


def _pinned(ips: list[str], connect: Connect) -> Any:
    """A network for one request that reaches these addresses only, whatever name it is given."""
    import httpcore

    class Pinned(httpcore.AsyncNetworkBackend):
        async def connect_tcp(  # type: ignore[override]
            self,
            host: str,
            port: int,
            timeout: float | None = None,  # noqa: ASYNC109 - httpcore names it
            **_: Any,
        ) -> "AsyncNetworkStream":
            for ip in ips[:-1]:
                try:
                    return await connect(ip, port, timeout)
                except (OSError, httpcore.NetworkError, httpcore.TimeoutException):
                    continue
            return await connect(ips[-1], port, timeout)

    return Pinned()


def _is_ip(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False


def _closed(address: Address) -> ModelportError:
    return ModelportError(f"This gateway does not fetch media from '{address.host}'.")


def _failed(address: Address) -> ModelportError:
    return ModelportError(f"The media at '{address.host}' could not be fetched.")
