"""Names: what a `model` means. A name that would fit two services in the same way is refused, never guessed.

In this order, and a higher meaning hides a lower one: a service's own name, its id, an alias, what a service is served
as, the model's own id. A key that is for some services only may use one by its own name or by any other, and may also
be given a name, like an alias's, for whatever that name stands for.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from modelport.domain.alias import Alias
from modelport.errors import FORBIDDEN, MODEL_NOT_FOUND, ModelportError, nearest
from modelport.gateway.admit import Unknown
from modelport.gateway.choice import Choice
from modelport.gateway.pick import SESSION
from modelport.store.keys import Key

if TYPE_CHECKING:
    from modelport.gateway.routes import Route

_MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?(?:@[\w./-]+|:[\w.-]+)?")
"""A catalog's alias or a Hub id. A path or a URI of the owner's is no name, and is told to nobody."""
_FILES = (".gguf", ".safetensors")


class Names:
    """All names of one snapshot. Plain ones, which stand for one service, cost one look-up."""

    def __init__(self, routes: "Iterable[Route]", aliases: Iterable[Alias], before: "Names | None" = None) -> None:
        """`before` are the names in force until now: an alias that did not change goes on with its turns."""
        routes = list(routes)
        self._own = {route.name: route for route in routes}
        chosen = {alias.name: _kept(Choice(alias, self._own), before) for alias in aliases}
        by_id = {route.routed.id: route for route in routes}
        served = _grouped((route.routed.spec.served_name, route) for route in routes)
        models = _grouped((name, route) for route in routes for name in _model_ids(route.routed.spec.model))
        meanings: dict[str, Route | Choice | tuple[Route, ...]] = {**models, **served, **chosen, **by_id, **self._own}
        self.plain: dict[str, Route] = {}
        """Names with one meaning."""
        self._choices: dict[str, Choice] = {}
        self._ambiguous: dict[str, tuple[Route, ...]] = {}
        for name, meaning in meanings.items():
            if isinstance(meaning, Choice):
                self._choices[name] = meaning
            elif isinstance(meaning, tuple):
                self._ambiguous[name] = meaning
            else:
                self.plain[name] = meaning
        self._listed = [name for name in {**self._own, **chosen, **served} if name not in self._ambiguous]

    def resolve(self, name: str, headers: Mapping[bytes, bytes], key: Key) -> "Route":
        """The service that gets this request; of an alias with several, the next in turn.

        Raises ModelportError: 404 (Unknown) with the nearest name that the key may use, 400 for an ambiguous one with
        the services it could be, 403 for what the key is not for.
        """
        route = self.plain.get(name)
        if route is None:
            return self._shared(name, headers, key)
        if not may_use(key, route.name, name):
            raise _forbidden(name)
        return route

    def _shared(self, name: str, headers: Mapping[bytes, bytes], key: Key) -> "Route":
        if (routes := self._ambiguous.get(name)) is not None:
            raise _ambiguity(name, [route.name for route in routes if may_use(key, route.name, name)])
        if (choice := self._choices.get(name)) is None:
            raise self._unknown(name, key)
        if not choice.members:
            raise Unknown(f"The model {name!r} stands for services that are not here any more.", MODEL_NOT_FOUND,
                          param="model")  # fmt: skip
        usable = [member for member in choice.members if may_use(key, member.route.name, name)]
        if not usable:
            raise _forbidden(name)
        found = choice.pick(usable, headers, headers.get(SESSION) or key.id.encode())
        if found is None:
            raise ModelportError(f"The model {name!r} takes only requests that ask for it by header now.",
                                 MODEL_NOT_FOUND, param="model")  # fmt: skip
        return found

    def _unknown(self, name: str, key: Key) -> ModelportError:
        known = [known for known, route in self.plain.items() if known != route.routed.id and _may(key, known, route)]
        known += [known for known, route in self.visible(key) if known in self._choices]
        shown = name if len(name) <= 80 else name[:77] + "..."
        return Unknown(f"There is no model {shown!r} here.{nearest(shown, known)}", MODEL_NOT_FOUND, param="model")

    def own(self, name: str) -> "Route | None":
        """The service of this very name."""
        return self._own.get(name)

    def means_another(self, name: str, route: "Route") -> bool:
        """Whether this is a name of other services and not of this one. A name of nobody's is neither."""
        if (plain := self.plain.get(name)) is not None:
            return plain is not route
        if (choice := self._choices.get(name)) is not None:
            return all(member.route is not route for member in choice.members)
        return name in self._ambiguous and route not in self._ambiguous[name]

    def visible(self, key: Key) -> "Iterator[tuple[str, Route]]":
        """What a key may list: services' own names, aliases and what services are served as. An alias of several comes
        with the first of them that the key may use."""
        for name in self._listed:
            choice = self._choices.get(name)
            routes = [member.route for member in choice.members] if choice else [self.plain[name]]
            if (usable := next((route for route in routes if may_use(key, route.name, name)), None)) is not None:
                yield name, usable


def may_use(key: Key, service: str, asked: str | None = None) -> bool:
    """Whether a key is for this service, by its own name or by the one that was asked for."""
    return not key.models or service in key.models or asked in key.models


def _may(key: Key, name: str, route: "Route") -> bool:
    return may_use(key, route.name, name)


def _kept(choice: Choice, before: Names | None) -> "Choice | Route":
    """One service under an alias is just a name; several go on where they were."""
    if len(choice.alias.targets) == 1 and choice.members:
        return choice.members[0].route
    old = before._choices.get(choice.alias.name) if before is not None else None
    return old if old is not None and (old.alias, old.members) == (choice.alias, choice.members) else choice


def _grouped(pairs: "Iterable[tuple[str, Route]]") -> "dict[str, Route | tuple[Route, ...]]":
    """By name; several routes where several have it."""
    found: dict[str, list[Route]] = {}
    for name, route in pairs:
        if name:
            found.setdefault(name, []).append(route)
    return {name: tuple(routes) if len(routes) > 1 else routes[0] for name, routes in found.items()}


def _model_ids(model: str) -> set[str]:
    """`org/name` of `org/name@revision`, and both."""
    if not _MODEL_ID.fullmatch(model) or model.endswith(_FILES):
        return set()
    return {model, model.partition("@")[0]}


def _ambiguity(name: str, services: list[str]) -> ModelportError:
    which = f": {' and '.join(map(repr, services[:8]))}" if len(services) > 1 else ""
    return ModelportError(
        f"The model {name!r} is served by more than one service here{which}; ask for one by its own name.",
        param="model",
    )


def _forbidden(name: str) -> ModelportError:
    return ModelportError(f"This API key may not use the model '{name}'.", FORBIDDEN, param="model")
