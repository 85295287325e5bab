"""Account: what one request holds while it is under way, and what is settled when it is over."""

import math
import time
from dataclasses import dataclass, field

from modelport.domain.amounts import Amounts
from modelport.domain.limits import Limits
from modelport.gateway.bodies import Waiting
from modelport.gateway.bound import used
from modelport.gateway.ledger import Ledger, Reservation, Short
from modelport.gateway.limits import Limiter, Ticket
from modelport.gateway.meter import Meter
from modelport.gateway.queue import DEFAULT_PLACES, DEFAULT_TIMEOUT_S, FairQueue
from modelport.gateway.relay import Passage
from modelport.gateway.request import Request, perf
from modelport.gateway.requestlog import Line, RequestLog, encode
from modelport.gateway.routes import Route, Routes
from modelport.gateway.upstream import Upstream, Visit
from modelport.gateway.usage import Usage
from modelport.store.journals import Open
from modelport.store.keys import Key

ZERO = Amounts(requests=0)


@dataclass(slots=True)
class Account:
    """Filled as the request goes on its way."""

    route: Route
    bound: Amounts
    ticket: Ticket
    reservation: Reservation
    queue: FairQueue | None = None
    upstream: Upstream | None = None
    visit: Visit | None = None
    passage: Passage | None = None
    said: Usage | None = None
    answers: int = 1
    """Choices of all prompts."""
    prompts: int = 1
    whole: bool = False
    """Whether the answer came to its end."""
    gpu_s: float = 0.0


@dataclass(slots=True)
class Accounts:
    """Opens and closes them: limits first, which cost nothing to ask, then budgets, then a place at the service."""

    limiter: Limiter
    ledger: Ledger
    meter: Meter
    lines: RequestLog
    queues: dict[str, FairQueue]
    bodies: Waiting = field(default_factory=Waiting)

    def swap(self, routes: Routes) -> None:
        """Budgets, capacities and places as the routes have them now."""
        self.ledger.swap(routes.budgets)
        for service_id in [known for known in self.queues if known not in routes.by_id]:
            self.queues.pop(service_id).capacity = None
        for service_id, route in routes.by_id.items():
            limits = route.routed.limits
            queue = self.queues.setdefault(service_id, FairQueue(None))
            queue.places = DEFAULT_PLACES if limits.queue is None else limits.queue
            queue.capacity = self.limiter.share(self._capacity(route))

    def share(self, gateways: int) -> None:
        """So many gateways share the limits now."""
        self.limiter.gateways = max(1, gateways)

    def _capacity(self, route: Route) -> int | None:
        """Requests its engines are given at once. While it has none, all are let in: they wait for it to wake."""
        routed = route.routed
        if not route.upstreams:
            return None
        given = None if routed.parallel is None else routed.parallel * len(route.upstreams)
        own = routed.limits.in_flight
        return given if own is None else own if given is None else min(given, own)

    def open(self, request: Request, key: Key, team: Limits, route: Route, bound: Amounts) -> Account | Ticket:
        """Admit a request under its limits and reserve its worst case. A Ticket alone where a lease does not hold that,
        and more has to be waited for: `open_waiting` takes it. Raises ModelportError: 429, 503."""
        routed = route.routed
        tokens = bound.input_tokens + bound.output_tokens
        ticket = self.limiter.admit(key, team, routed.id, routed.limits, tokens, time.monotonic())
        try:
            made = self.ledger.reserve(request.id, key.id, key.team, route.name, bound)
        except BaseException:
            _return(ticket)
            raise
        return ticket if isinstance(made, Short) else self._opened(request, route, bound, ticket, made)

    async def open_waiting(self, request: Request, ticket: Ticket, route: Route, bound: Amounts) -> Account:
        """Reserve with more taken from the store. Raises ModelportError: 402, 503."""
        key: Key = request.key
        began = perf()
        try:
            made = await self.ledger.reserve_waiting(request.id, key.id, key.team, route.name, bound)
        except BaseException:
            _return(ticket)
            raise
        request.waited_s += perf() - began
        return self._opened(request, route, bound, ticket, made)

    def _opened(self, request: Request, route: Route, bound: Amounts, ticket: Ticket, made: Reservation) -> Account:
        key: Key = request.key
        if told := ticket.headers(time.monotonic()):
            request.extra += told
        if warning := self.ledger.warnings(key.id, key.team, route.name):
            request.extra += ((b"x-modelport-budget-warning", warning.encode()),)
        request.account = account = Account(route, bound, ticket, made)
        return account

    def enter(self, account: Account) -> bool:
        """Take a place at the service where there is room and nobody waits."""
        queue = self.queues.get(account.route.routed.id)
        if queue is None:
            return True
        if queue.try_enter():
            account.queue = queue
            return True
        return False

    async def queue(self, account: Account, request: Request, deadline_s: float | None) -> None:
        """Wait for a place at the service. Raises ModelportError (429, 504)."""
        route, key = account.route, request.key
        queue = self.queues.get(route.routed.id)
        if queue is None:
            return
        both = (route.routed.limits, key.limits)
        timeouts = [each.queue_timeout for each in both if each.queue_timeout is not None]
        bound = account.bound
        began = perf()
        await queue.enter(
            key.id,
            cost=bound.input_tokens + bound.output_tokens,
            weight=key.limits.weight,
            priority=key.limits.priority,
            flow_places=key.limits.queue,
            timeout_s=min(timeouts, default=DEFAULT_TIMEOUT_S),
            deadline_s=None if deadline_s is None else max(0.0, deadline_s - (perf() - request.started)),
        )
        request.waited_s += perf() - began
        account.queue = queue

    def leave(self, account: Account) -> None:
        """The request is no longer at its service; what it took is settled when its answer is known."""
        if account.upstream is not None and account.visit is not None:
            account.gpu_s = account.upstream.leave(account.visit) * max(1, account.route.routed.gpus)
        if account.queue is not None:
            account.queue.leave()
        account.ticket.leave()

    def drop(self, request: Request, status: int) -> None:
        """Another service takes the request: it is over here, and goes on under an id of its own."""
        request.status = status
        self.close(request)
        request.status = 0
        request.account = None
        first, _, tries = request.id.partition(".")
        request.id = f"{first}.{int(tries or 1) + 1}"

    def close(self, request: Request) -> Line:
        """Settle what the request took, and write its line, whatever became of it."""
        account: Account | None = request.account
        taken, estimated = self._taken(account) if account is not None else (ZERO, False)
        line = _line(request, taken, estimated)
        self.meter.add(line)
        if request.overhead_s is not None:
            self.meter.overhead(request.overhead_s)
        text = encode(line)
        if account is not None:
            account.ticket.settle(taken.input_tokens + taken.output_tokens)
            self.ledger.settle(account.reservation, taken, text)
        if not self.lines.add(text, stored=account is None and line.service_id != ""):
            self.meter.drop("log", 1)
        return line

    def end(self, request: Request) -> None:
        """Close the last of a request's accounts, and let go of what was noted of it."""
        line = self.close(request)
        if request.trace is not None:
            request.trace.end(line)
        if request.bodies is not None and not self.bodies.add(request.bodies, line):
            self.meter.drop("bodies", 1)

    def refuse(self, name: str, status: int) -> None:
        """Note what was refused before it became a request."""
        line = Line(name, time.time(), name, "-", "", "", "", "", "", "", "-", "-", status)
        self.meter.add(line)
        self.lines.add(encode(line), stored=False)

    def _taken(self, account: Account) -> tuple[Amounts, bool]:
        passage = account.passage
        if passage is None:
            return ZERO, False  # it never reached an engine
        said = account.said or passage.usage
        status = passage.connection.status
        if said is None and status >= 300:  # refused by its engine, which says nothing of what that took
            taken = Amounts(gpu_ms=math.ceil(account.gpu_s * 1000))
            taken.money_nano = account.route.routed.rates.nano(taken)
            return taken, False
        # llama.cpp tells the usage of one answer of one prompt, whatever was asked for.
        partial = (not account.whole and passage.partial) or passage.upstream.engine == "llamacpp"
        return used(
            account.bound, said, account.route.routed.rates, account.gpu_s,
            answer_bytes=passage.sent_bytes, events=passage.events, later=passage.later, whole=account.whole,
            answers=account.answers if partial else 1, prompts=account.prompts if partial else 1,
        )  # fmt: skip


def _return(ticket: Ticket) -> None:
    """Nothing was sent: only that it was a request stays counted."""
    ticket.settle(0)
    ticket.leave()


def _line(request: Request, taken: Amounts, estimated: bool) -> Line:
    key: Key = request.key
    return Line(
        id=request.id, at=time.time(), request_id=request.shown_id, key_id=key.id, team=key.team, user=key.user,
        service_id=request.service_id, service=request.service, instance_id=request.instance_id, model=request.model,
        route=request.route, method=request.method, status=request.status, stream=request.stream,
        input_tokens=taken.input_tokens, output_tokens=taken.output_tokens, cached_tokens=taken.cached_tokens,
        reasoning_tokens=taken.reasoning_tokens, audio_ms=taken.audio_ms, characters=taken.characters,
        images=taken.images, gpu_ms=taken.gpu_ms, money_nano=taken.money_nano, estimated=estimated,
        queue_s=request.queue_s, first_byte_s=request.first_byte_s, total_s=perf() - request.started,
    )  # fmt: skip


def interrupted(record: Open) -> bytes:
    """The line of a request that was under way when the gateway was killed: it counts at its worst case."""
    worst = record.worst
    return encode(
        Line(
            id=record.open, at=record.at, request_id=record.open, key_id=record.key, team=record.team, user="",
            service_id="", service=record.service, instance_id="", model=record.service, route="-", method="-",
            status=0, input_tokens=worst.input_tokens, output_tokens=worst.output_tokens,
            cached_tokens=worst.cached_tokens, reasoning_tokens=worst.reasoning_tokens,
            audio_ms=worst.audio_ms, characters=worst.characters, images=worst.images, gpu_ms=worst.gpu_ms,
            money_nano=worst.money_nano, estimated=True,
        )
    )  # fmt: skip
