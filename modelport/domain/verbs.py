"""Verbs: the one interface to what Modelport can do. control implements it, client implements it over HTTP."""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

from modelport.domain.service import InfoView, KeyView, PlanView, ServiceView, UsageView
from modelport.domain.spec import Spec


class Keys(Protocol):
    """The verbs on keys. The store implements them too, so that keys can be revoked while control is down."""

    def create_key(
        self, name: str, scope: Literal["infer", "admin"], models: Sequence[str], expires_in_s: float | None
    ) -> KeyView:
        """A new key; `secret` is set in this answer only."""
        ...

    def list_keys(self) -> list[KeyView]: ...

    def revoke_key(self, key: str) -> KeyView:
        """By id or prefix. It stops working within a second. Raises ModelportError (404, or 400 if ambiguous)."""
        ...


class Plans(Protocol):
    """The verbs that start nothing. They work while control is down too."""

    def plan(self, spec: Spec) -> PlanView:
        """How it would run: on `spec.accelerators`, which need not be here, else on this machine."""
        ...

    def offers(self, spec: Spec) -> "list[PlanView]":
        """The cheapest accelerators to be had that it fits on, cheapest first; `spec.accelerators` is not looked at."""
        ...


class Verbs(Keys, Plans, Protocol):
    """Every surface is handed one of these. All raise ModelportError; `service` is a name or an id."""

    def info(self) -> InfoView: ...

    def start(self, spec: Spec) -> ServiceView:
        """Make the service exist and run. The same Spec again is the same service; another Spec under a name that is
        taken raises (400)."""
        ...

    def apply(self, specs: Sequence[Spec]) -> list[ServiceView]:
        """Make the named services be as these Specs say, replacing engines without losing a request."""
        ...

    def stop(self, service: str) -> ServiceView: ...

    def remove(self, service: str) -> ServiceView:
        """Stop it and forget it; its name is free once its last instance is gone."""
        ...

    def restart(self, service: str) -> ServiceView:
        """Replace its engines, one rolling change; start it if it sleeps, was stopped or had failed."""
        ...

    def list(self) -> list[ServiceView]: ...

    def status(self, service: str) -> ServiceView: ...

    def logs(self, service: str, tail: int, follow: bool) -> Iterator[str]:
        """Lines of its engines' output, oldest first, without line ends."""
        ...

    def usage(self) -> "list[UsageView]": ...
