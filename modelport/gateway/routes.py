"""Routes: which services there are, which replicas each has, and which of those gets the next request."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping

from modelport.gateway.upstream import Upstream
from modelport.store.keys import Key
from modelport.store.snapshot import Routed, Snapshot

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

    def pick(self) -> Upstream | None:
        """The replica with the fewest requests in flight, by turns where they are equal; none that is down."""
        now = time.monotonic()
        count = len(self.upstreams)
        self._turn += 1
        best: Upstream | None = None
        for i in range(count):
            upstream = self.upstreams[(self._turn + i) % count]
            if upstream.down_until <= now and (best is None or upstream.in_flight < best.in_flight):
                best = upstream
        return best


class Routes:
    """The gateway's world: replaced as a whole when a new snapshot comes, save for what is in flight."""

    def __init__(self, on_free: Callable[[], None]) -> None:
        self.loaded = False
        self.revision = 0
        self.keys: Mapping[str, Key] = {}
        self.by_name: dict[str, Route] = {}
        """By every name that clients may use: the service's, and what it is served as."""
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
                upstreams[replica.id] = known or Upstream(replica.id, replica.url, key, replica.routes)
            route.upstreams = tuple(upstreams[r.id] for r in routed.replicas if r.id in upstreams)
            if route.upstreams:
                route.known_routes = frozenset().union(*(u.routes for u in route.upstreams))
        for upstream in self._upstreams.values():
            if upstream.id not in upstreams:
                self._drop(upstream)
        before = self.by_id
        self.keys = snapshot.keys
        self.by_id = by_id
        # A service's own name wins over what another is served as.
        served = {route.routed.spec.served_name: route for route in by_id.values() if route.routed.spec.served_name}
        self.by_name = served | {route.name: route for route in by_id.values()}
        self._upstreams = upstreams
        self.revision = snapshot.revision
        self.loaded = True
        for route in before.values():
            if route.routed.id not in by_id:
                route.gone, route.upstreams = True, ()
            route.changed.set()
            route.changed.clear()

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
