"""Flags: which options an engine has in which of its versions, and which a user may add.

Each engine's table is held against its own parsers, by tests/engines/test_flags.py.
`since` and `until` are the first and last version *looked at* that has it: what lies between two of those is not known.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modelport.errors import ModelportError


@dataclass(frozen=True, slots=True)
class Range:
    """Versions from `since` to `until`, both included; an empty `until` has no end."""

    since: str = ""
    until: str = ""

    def holds(self, version: str) -> bool:
        return number(self.since) <= number(version) and (not self.until or number(version) <= number(self.until))

    def __str__(self) -> str:
        return f"{self.since or 'the first'} to {self.until}" if self.until else f"{self.since} and newer"


ALWAYS = Range()


def number(version: str) -> tuple[int, ...]:
    """A version's leading numbers, for comparing: `0.13.0rc2.dev1+g1` is (0, 13, 0)."""
    leading = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(int(part) for part in leading[1].split(".")) if leading else ()


def must_hold(engine: str, version: str, argv: Iterable[str], table: Mapping[str, Range]) -> None:
    """Every option of ours is in the table, and in this version. Raises ModelportError for one that is not."""
    for flag in (arg for arg in argv if arg.startswith("--")):
        if not table[flag].holds(version):
            raise ModelportError(
                f"{engine} {version} has no option {flag} ({engine} {table[flag]} has). Install such a version of "
                f"{engine}, or leave out what needs the option.",
                param="engine",
            )


def extra(engine: str, args: tuple[str, ...], refused: Mapping[str, str], joined: bool = True) -> tuple[str, ...]:
    """What a user adds to an engine's command, as it is. `refused` maps options to what to do instead.

    An option is recognised in each way parsers take it: `--a-b x`, `--a-b=x`, `--a_b`, `--no-a-b`, any beginning of it
    (argparse takes `--api-k` and `-t` for `-tp`), and, where values may be `joined` to short ones, `-p80`. Raises
    ModelportError for a refused one.
    """
    for arg in args:
        given = arg.partition("=")[0].replace("_", "-")
        exact = [given] if given in refused else []  # `-dpr` is itself before it is `-dp` with a value
        if flag := next((flag for flag in (*exact, *refused) if _is(given, flag, joined)), ""):
            raise ModelportError(
                f"engine_args holds {arg.partition('=')[0]!r}, which is not passed on to {engine}: {refused[flag]}.",
                param="engine_args",
            )
    return args


def _is(given: str, flag: str, joined: bool) -> bool:
    """Whether a parser could take `given` for `flag`. llama.cpp's, which joins nothing, takes whole options only."""
    if not joined:
        return given == flag
    given = given.partition(".")[0]  # vLLM takes `--some-config.key=value`
    if flag.startswith("--"):
        return any(len(word) > 2 and flag.startswith(word) for word in (given, given.replace("--no-", "--", 1)))
    short = given.startswith("-") and not given.startswith("--") and len(given) > 1
    return short and (given.startswith(flag) or flag.startswith(given))


OURS = "Modelport sets the engine's key, address and port itself"
NAME = "the name clients use is the service's `name`"
TLS = "engines listen on loopback without TLS, behind the gateway"
TOKEN = "a token in a command can be read by everyone on the machine; set HF_TOKEN in the environment"  # noqa: S105
FILE = "a file of options could undo the engine's key and port; give the options themselves"
MEMORY = "the plan would not know of it: set `memory_fraction`, `context` or `parallel`"
MACHINES = "Modelport starts engines of one machine, and sets their addresses"
FILES_SEEN = "clients could then read files of this machine"
LOADED = "how files are loaded follows from `model`: leave it out"
