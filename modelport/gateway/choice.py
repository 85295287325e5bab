"""Choice: which of an alias's services gets the next request: by header, by session, or by weight."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from hashlib import blake2b
from math import lcm, log
from typing import TYPE_CHECKING, NamedTuple

from modelport.domain.alias import Alias

if TYPE_CHECKING:
    from modelport.gateway.routes import Route


class Member(NamedTuple):
    """A target whose service is there."""

    route: "Route"
    weight: float
    header: bytes
    """Lower-case; b"" where none asks for it."""
    value: bytes


class Choice:
    """One alias and where its turns stand."""

    def __init__(self, alias: Alias, routes: Mapping[str, "Route"]) -> None:
        """`routes` is by the services' own names; targets that it lacks are left out."""
        self.alias = alias
        self.members = tuple(
            Member(routes[target.service], target.weight, *_header(target.header))
            for target in alias.targets
            if target.service in routes
        )
        self._wheels: dict[tuple[Route, ...], Wheel] = {}

    def pick(self, members: Sequence[Member], headers: Mapping[bytes, bytes], session: bytes) -> "Route | None":
        """One of those `members` that may be used: what a header asks for, else by weight. None where none has any."""
        for member in members:
            if member.header and headers.get(member.header) == member.value:
                return member.route
        shared = [member for member in members if member.weight > 0]
        if len(shared) < 2:
            return shared[0].route if shared else None
        if self.alias.sticky:
            return max(shared, key=lambda member: _pull(member, session)).route
        routes = tuple(member.route for member in shared)
        wheel = self._wheels.get(routes)
        if wheel is None:
            wheel = self._wheels[routes] = Wheel([member.weight for member in shared])
        return routes[wheel.turn()]


class Wheel:
    """Smooth weighted round robin, as nginx has it: in every run of as many turns as the weights add up to (in whole
    numbers), each gets exactly its share, spread as evenly as can be."""

    def __init__(self, weights: Sequence[float]) -> None:
        exact = [Fraction(str(weight)) for weight in weights]
        scale = lcm(*(weight.denominator for weight in exact))
        self._weights = [int(weight * scale) for weight in exact]
        self._total = sum(self._weights)
        self._credit = [0] * len(weights)

    def turn(self) -> int:
        """Whose turn it is, by place in `weights`."""
        credit = [have + weight for have, weight in zip(self._credit, self._weights, strict=True)]
        first = credit.index(max(credit))
        credit[first] -= self._total
        self._credit = credit
        return first


def _pull(member: Member, session: bytes) -> float:
    """Weighted rendezvous hashing: the highest of -weight / ln(u), u uniform in (0, 1) and the session's own."""
    digest = blake2b(session, digest_size=8, key=member.route.name.encode()).digest()
    uniform = ((int.from_bytes(digest) >> 12) + 0.5) / (1 << 52)
    return -member.weight / log(uniform)


def _header(text: str) -> tuple[bytes, bytes]:
    name, _, value = text.partition(":")
    return name.strip().lower().encode(), value.strip().encode()
