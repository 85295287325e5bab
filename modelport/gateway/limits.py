"""Limits: how much a key, its team and a service may take at a time. A request is admitted by all of them or by none.

A request counts with its worst case when it comes, and with what it used once that is known. With several gateways each
holds its share of a limit.
"""

from collections.abc import Iterable
from math import ceil

from modelport.domain.limits import NO_LIMITS, Limits
from modelport.errors import INVALID, RATE_LIMITED, ModelportError
from modelport.gateway.window import Entry, Window
from modelport.store.keys import Key

SWEEP_S = 60.0
IN_FLIGHT_RETRY_S = 1.0
"""When a request ends cannot be known; a second is what clients wait anyway."""
MAX_RETRY_MS = 60_000
"""SDKs do as they are told up to a minute, and take their own guess above."""

Headers = tuple[tuple[bytes, bytes], ...]


class Limited(ModelportError):
    """429: which limit of whose, and when to come again. `headers` are OpenAI's, of the limit that is tightest."""

    def __init__(self, message: str, wait_s: float, headers: Headers) -> None:
        super().__init__(message, RATE_LIMITED, retry_after_s=ceil(wait_s))
        wait_ms = min(ceil(wait_s * 1000), MAX_RETRY_MS)
        self.headers: Headers = ((b"retry-after-ms", b"%d" % wait_ms), *headers)


class _Subject:
    """One key, team or service: its limits as of the last snapshot, and what it has under way."""

    __slots__ = ("bounded", "in_flight", "in_flight_limit", "limits", "requests", "tokens", "told", "whose")

    def __init__(self, whose: str, told: bool) -> None:
        self.whose = whose
        self.told = told
        """Whether those it admits are told what is left. Of a service they are not: that is what others use."""
        self.limits: Limits | None = None
        self.in_flight = 0
        self.in_flight_limit: int | None = None
        self.requests: Window | None = None
        self.tokens: Window | None = None
        self.bounded = False

    def adopt(self, limits: Limits, gateways: int, in_flight: bool) -> None:
        self.limits = limits
        self.in_flight_limit = share(limits.in_flight, gateways) if in_flight else None
        self.requests = _resized(self.requests, share(limits.requests_per_minute, gateways))
        self.tokens = _resized(self.tokens, share(limits.tokens_per_minute, gateways))
        self.bounded = not (self.in_flight_limit is None and self.requests is None and self.tokens is None)

    @property
    def half_used(self) -> bool:
        requests, tokens = self.requests, self.tokens
        return (requests is not None and 2 * requests.used >= requests.limit) or (
            tokens is not None and 2 * tokens.used >= tokens.limit
        )

    def idle(self, now: float) -> bool:
        windows = (self.requests, self.tokens)
        return not self.in_flight and not any(window is not None and window.whole_s(now) for window in windows)


class Ticket:
    """What an admitted request holds. It is settled once and left once; a second time does nothing."""

    __slots__ = ("_entries", "_inside", "_subjects", "_tokens")

    def __init__(self, subjects: list[_Subject], tokens: int, now: float) -> None:
        self._subjects = subjects
        self._tokens = tokens
        self._inside = True
        entries: list[tuple[Window, Entry]] = []
        for subject in subjects:
            subject.in_flight += 1
            if subject.requests is not None:
                subject.requests.add(now, 1)
            if (window := subject.tokens) is not None:
                entries.append((window, window.add(now, tokens)))
        self._entries = entries

    def settle(self, tokens: int) -> None:
        """What the request used, instead of its worst case; 0 where nothing was sent to an engine. One that is never
        settled stays counted in full. That it was one request stays counted either way."""
        for window, entry in self._entries:
            window.correct(entry, tokens - self._tokens)
        self._entries = []

    def leave(self) -> None:
        """The request is no longer under way."""
        if self._inside:
            self._inside = False
            for subject in self._subjects:
                subject.in_flight -= 1

    def headers(self, now: float) -> Headers:
        """What is left of the key's and the team's limits, in OpenAI's names, once half of one is used: until then
        nobody needs to slow down, and to write it takes longer than to count."""
        return _headers(self._subjects, now) if any(subject.half_used for subject in self._subjects) else ()


_FREE = Ticket([], 0, 0.0)
"""For requests without limits. It holds nothing, so one serves all."""


class Limiter:
    """Who has used how much. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._gateways = 1
        self._keys: dict[str, _Subject] = {}
        self._teams: dict[str, _Subject] = {}
        self._services: dict[str, _Subject] = {}
        self._sweep_at = 0.0

    @property
    def gateways(self) -> int:
        """Live gateways that share the limits."""
        return self._gateways

    @gateways.setter
    def gateways(self, count: int) -> None:
        if count != self._gateways:
            self._gateways = count
            for subjects in (self._keys, self._teams, self._services):
                for subject in subjects.values():
                    subject.limits = None  # so that the next request adopts them anew

    def admit(self, key: Key, team: Limits | None, service_id: str, service: Limits, tokens: int, now: float) -> Ticket:
        """Count a request of at most so many tokens against every limit it comes under.

        Raises ModelportError: 429 (Limited) when it has to wait, 400 when its worst case alone is over a limit. A
        service's own `in_flight` is no limit here but the capacity of its queue.
        """
        found: list[_Subject] = []
        if (limits := key.limits) is not NO_LIMITS:
            subject = self._keys.get(key.id)
            if subject is None or subject.limits is not limits:
                subject = self._adopt(self._keys, key.id, "this API key", limits, now)
            if subject.bounded:
                found.append(subject)
        if team is not None and team is not NO_LIMITS:
            subject = self._teams.get(key.team)
            if subject is None or subject.limits is not team:
                subject = self._adopt(self._teams, key.team, f"the team '{key.team}'", team, now)
            if subject.bounded:
                found.append(subject)
        if service is not NO_LIMITS:
            subject = self._services.get(service_id)
            if subject is None or subject.limits is not service:
                subject = self._adopt(self._services, service_id, "this service", service, now)
            if subject.bounded:
                found.append(subject)
        if not found:
            return _FREE
        for subject in found:
            if (limit := subject.in_flight_limit) is not None and subject.in_flight >= limit:
                break
            if (window := subject.requests) is not None and window.remaining(now) < 1:
                break
            if (window := subject.tokens) is not None and window.remaining(now) < tokens:
                break
        else:
            return Ticket(found, tokens, now)
        raise self._refusal(found, tokens, now)

    def share(self, limit: int | None) -> int | None:
        """This gateway's part of a limit."""
        return share(limit, self._gateways)

    def _adopt(self, subjects: dict[str, _Subject], name: str, whose: str, limits: Limits, now: float) -> _Subject:
        subject = subjects.get(name)
        if subject is None:
            if now >= self._sweep_at:
                self._sweep(now)
            subject = subjects[name] = _Subject(whose, told=subjects is not self._services)
        subject.adopt(limits, self._gateways, in_flight=subjects is not self._services)
        return subject

    def _sweep(self, now: float) -> None:
        """Forget who has nothing under way and nothing counted; only when somebody new comes is there a need to."""
        self._sweep_at = now + SWEEP_S
        for subjects in (self._keys, self._teams, self._services):
            for name in [name for name, subject in subjects.items() if subject.idle(now)]:
                del subjects[name]

    def _refusal(self, subjects: list[_Subject], tokens: int, now: float) -> ModelportError:
        """Names the limit that takes longest to give way: before, a new attempt would be refused again."""
        here = "" if self._gateways == 1 else " at this gateway"
        waits: list[tuple[float, str]] = []
        for subject in subjects:
            limit_of = f"The limit of {subject.whose} is"
            if (limit := subject.in_flight_limit) is not None and subject.in_flight >= limit:
                text = f"{limit_of} {limit} requests at once{here}, and as many are under way; try again when one ends."
                waits.append((IN_FLIGHT_RETRY_S, text))
            if (window := subject.requests) is not None and window.remaining(now) < 1:
                wait_s = window.reset_s(now, 1)
                text = f"{limit_of} {window.limit} requests per minute{here}; try again in {wait_s:.1f} s."
                waits.append((wait_s, text))
            if (window := subject.tokens) is None:
                continue
            if tokens > window.limit:
                return ModelportError(
                    f"{limit_of} {window.limit} tokens per minute{here}, and this request alone may need {tokens}; "
                    "waiting would not help: lower max_tokens or send less.", INVALID, param="max_tokens",
                )  # fmt: skip
            if (left := window.remaining(now)) < tokens:
                wait_s = window.reset_s(now, tokens)
                text = (
                    f"{limit_of} {window.limit} tokens per minute{here}, of which {max(0, left):.0f} are left, and "
                    f"this request may need {tokens}; try again in {wait_s:.1f} s."
                )
                waits.append((wait_s, text))
        wait_s, text = max(waits)
        return Limited(text, wait_s, _headers(subjects, now, tokens))


def share(limit: int | None, gateways: int) -> int | None:
    return None if limit is None else max(1, limit // gateways)


def _resized(window: Window | None, limit: int | None) -> Window | None:
    """The same window with another limit: what was used before goes on counting."""
    if limit is None:
        return None
    if window is None:
        return Window(limit)
    window.limit = limit
    return window


# Headers, named and spelled as OpenAI's: https://platform.openai.com/docs/guides/rate-limits


_REQUESTS = (b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests")
_TOKENS = (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens")


def _headers(subjects: Iterable[_Subject], now: float, refused_tokens: int | None = None) -> Headers:
    """Of each unit's tightest window. `reset` is until nothing is counted any more; in a refusal of so many tokens,
    until that request fits."""
    requests = tokens = None
    for subject in subjects:
        if refused_tokens is None and not subject.told:
            continue
        window = subject.requests
        if window is not None and (requests is None or window.remaining(now) < requests.remaining(now)):
            requests = window
        window = subject.tokens
        if window is not None and (tokens is None or window.remaining(now) < tokens.remaining(now)):
            tokens = window
    first = () if requests is None else _three(_REQUESTS, requests, now, None if refused_tokens is None else 1)
    return first if tokens is None else (*first, *_three(_TOKENS, tokens, now, refused_tokens))


def _three(names: tuple[bytes, bytes, bytes], window: Window, now: float, refused: int | None) -> Headers:
    left = window.remaining(now)
    wait_s = window.whole_s(now) if refused is None else window.reset_s(now, refused)
    return (
        (names[0], b"%d" % window.limit),
        (names[1], b"%d" % left if left > 0 else b"0"),
        (names[2], _spelled(wait_s)),
    )


def _spelled(wait_s: float) -> bytes:
    """`20ms`, `1s`, `6m0s`: as Go writes durations, to the next second from one second on."""
    if wait_s <= 0.999:
        return b"%dms" % ceil(wait_s * 1000)
    whole = ceil(wait_s)
    return b"%ds" % whole if whole < 60 else b"%dm%ds" % divmod(whole, 60)
