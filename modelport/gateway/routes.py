"""Routes: which services there are, which replicas each has, and which of those gets the next request."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from modelport.domain.limits import Limits
from modelport.errors import NOT_READY, ModelportError
from modelport.gateway.names import Names, may_use
from modelport.gateway.pick import at_home, home_of, least
from modelport.gateway.upstream import Upstream
from modelport.store.budgets import Cap
from modelport.store.keys import Key
from modelport.store.snapshot import Routed, Snapshot

MAX_HOPS = 3
"""Services that one request may go on to, one after the other."""
log = logging.getLogger("modelport.gateway")


class Route:
    """One service on its way through snapshots: what it is now, its replicas, who waits for it."""

    def __init__(self, routed: Routed) -> None:
        self.routed = routed
        self.upstreams: tuple[Upstream, ...] = ()
        self.gone = False
        self.in_flight = 0
        self.held = 0
        self.last_request_at = 0.0
        self.changed = asyncio.Event()
        """Pulsed at every snapshot, for those who wait."""
        self.known_routes: frozenset[str] = frozenset()
        """`METHOD /path` of its engines, as last seen: it outlives them, so that a wrong path wakes nobody."""
        self._turn = 0

    @property
    def name(self) -> str:
        return self.routed.name

    def home(self, headers: Mapping[bytes, bytes], body: bytes) -> bytes:
        """What `pick` takes to find a request's own replica; b"" where any will do."""
        return home_of(self.routed.spec.balance, headers, body)

    def pick(self, home: bytes = b"") -> Upstream | None:
        """The replica for the next request; None while all are down or have an open breaker, or there is none."""
        now = time.monotonic()
        if home:
            return at_home(self.upstreams, now, home)
        self._turn += 1
        return least(self.upstreams, now, self._turn)

    def broken_s(self) -> float | None:
        """Seconds until one of its replicas is tried again, where the breakers of all are open; else None."""
        now = time.monotonic()
        if not self.upstreams or any(upstream.breaker.ok(now) for upstream in self.upstreams):
            return None
        return max(0.0, min(upstream.breaker.probe_at for upstream in self.upstreams) - now)

    def refuse_while_broken(self) -> None:
        """Raises ModelportError (503) while every replica failed so often that none is asked: waiting is no help."""
        if (wait_s := self.broken_s()) is not None:
            raise ModelportError(
                f"No replica of service '{self.name}' works at the moment; its owner sees why with "
                f"`modelport logs {self.name}`.",
                NOT_READY,
                retry_after_s=wait_s,
            )


class Routes:
    """The gateway's world: replaced as a whole when a new snapshot comes, save for what is in flight."""

    def __init__(self, on_free: Callable[[], None]) -> None:
        self.loaded = False
        self.revision = 0
        self.keys: Mapping[str, Key] = {}
        self.teams: Mapping[str, Limits] = {}
        self.budgets: Sequence[Cap] = ()
        self.names = Names((), ())
        self.by_id: dict[str, Route] = {}
        self._upstreams: dict[str, Upstream] = {}
        self._leaving: set[Upstream] = set()
        self._on_free = on_free

    def swap(self, snapshot: Snapshot, engine_keys: Mapping[str, str]) -> None:
        """Route by this snapshot from now on. `engine_keys` is by instance id; a replica without is left out."""
        upstreams: dict[str, Upstream] = {}
        by_id: dict[str, Route] = {}
        for routed in snapshot.services:
            route = self.by_id.get(routed.id) or Route(routed)
            route.routed = routed
            by_id[routed.id] = route
            for replica in routed.replicas:
                if (key := engine_keys.get(replica.id)) is None:
                    log.error("service %s: the key of instance %s cannot be read", routed.name, replica.id)
                    continue
                known = self._upstreams.get(replica.id)
                upstreams[replica.id] = known or Upstream(replica.id, replica.url, key, replica.routes, replica.engine)
            route.upstreams = tuple(upstreams[r.id] for r in routed.replicas if r.id in upstreams)
            if route.upstreams:
                route.known_routes = frozenset().union(*(u.routes for u in route.upstreams))
        for upstream in self._upstreams.values():
            if upstream.id not in upstreams:
                self._drop(upstream)
        before = self.by_id
        self.keys = snapshot.keys
        self.teams = snapshot.teams
        self.budgets = snapshot.budgets
        self.by_id = by_id
        self.names = Names(by_id.values(), snapshot.aliases, self.names)
        self._upstreams = upstreams
        self.revision = snapshot.revision
        self.loaded = True
        for route in before.values():
            if route.routed.id not in by_id:
                route.gone, route.upstreams = True, ()
            route.changed.set()
            route.changed.clear()

    def failover(
        self, route: Route, why: Literal["failed", "unreachable", "full"], key: Key, tried: Sequence[Route]
    ) -> Route | None:
        """Who answers instead of `route`, by its own rule. `tried` are this one and those before it. None where there
        is no rule for this, the other service is not here, not the key's or tried already, or hops were enough."""
        rule = route.routed.spec.failover
        if rule is None or why not in rule.on or len(tried) > MAX_HOPS:
            return None
        target = self.names.own(rule.to)
        if target is None or target is route or target in tried or not may_use(key, target.name):
            return None
        return target

    def _drop(self, upstream: Upstream) -> None:
        """Nothing new goes there; what is in flight ends, and control hears of it at once."""
        upstream.close()
        if upstream.in_flight:
            upstream.on_free = self._freed
            self._leaving.add(upstream)

    def _freed(self, upstream: Upstream) -> None:
        self._leaving.discard(upstream)
        self._on_free()

    def all_upstreams(self) -> Iterable[Upstream]:
        yield from self._upstreams.values()
        yield from self._leaving

    def busy(self) -> tuple[str, ...]:
        """Instances with requests in flight."""
        return tuple(sorted(u.id for u in self.all_upstreams() if u.in_flight))

    def any_held(self) -> bool:
        return any(route.held for route in self.by_id.values())
