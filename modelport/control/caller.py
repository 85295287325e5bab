"""Caller: who asks for a Verb, and what that one may do."""

from dataclasses import dataclass
from typing import Literal

from modelport.domain.key import Scope

Needed = Scope | Literal["any"]
"""What a Verb asks of its caller; `any` is any key that the gateway let through."""


@dataclass(frozen=True, slots=True)
class Caller:
    """`key` is a key's id; empty is the owner of this machine's installation."""

    key: str = ""
    user: str = ""
    team: str = ""
    scopes: frozenset[str] = frozenset(("admin",))

    @property
    def actor(self) -> str:
        """As the audit names it."""
        return self.key or "local"

    def may(self, needed: Needed) -> bool:
        return needed == "any" or needed in self.scopes or "admin" in self.scopes


LOCAL = Caller()
