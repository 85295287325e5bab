"""Why an engine ended, in plain words: a table of what engines print, from the most to the least certain."""

import re
import signal
from dataclasses import dataclass

from modelport.domain.instance import Exit


@dataclass(frozen=True, slots=True)
class Reason:
    """`permanent`: trying again with the same Spec cannot help."""

    text: str
    permanent: bool = False


PATTERNS: tuple[tuple[str, Reason], ...] = (
    (r"address already in use|couldn't bind|failed to bind|bind.*errno 98", Reason("its port was in use")),
    (
        r"CUDA out of memory|CUDA error: out of memory|failed to allocate .*buffer|unable to allocate|std::bad_alloc|"
        r"Cannot allocate memory|MemoryError|OutOfMemory",
        Reason("out of memory; ask for a smaller context, fewer parallel requests or a smaller quantization"),
    ),
    (
        r"unknown model architecture|unsupported model architecture|architecture.* not supported",
        Reason("this engine does not know the model's architecture; a newer engine may", permanent=True),
    ),
    (
        r"gated repo|401 Client Error|access to model .* is restricted",
        Reason("the model is gated: accept its licence and set HF_TOKEN", permanent=True),
    ),
    (
        r"tensor .* is not within the file bounds|model is corrupted|invalid magic|failed to read (tensor|key)",
        Reason("the model file is damaged or incomplete; download it again", permanent=True),
    ),
    (r"No such file or directory.*\.gguf|failed to open .*\.gguf", Reason("the model file is gone", permanent=True)),
    (r"error while loading shared libraries", Reason("the engine lacks a shared library", permanent=True)),
    (
        r"invalid argument: |unrecognized arguments",
        Reason("the engine does not know one of its options", permanent=True),
    ),
    (r"No space left on device", Reason("the disk is full")),
)

_COMPILED = tuple((re.compile(pattern, re.IGNORECASE), reason) for pattern, reason in PATTERNS)


def explain(end: Exit) -> Reason:
    """The reason for people, from the exit's cause, then its last lines, then its code or signal."""
    if end.cause:
        return Reason({"shim died": "the process that watches it was killed"}.get(end.cause, end.cause))
    if end.code == 127:
        return Reason("the engine's program was not found", permanent=True)
    for line in reversed(end.tail):
        for pattern, reason in _COMPILED:
            if pattern.search(line):
                return reason
    if end.signal == signal.SIGKILL:
        return Reason("it was killed (signal 9), which is what the kernel does when memory runs out")
    last = next((line.strip() for line in reversed(end.tail) if line.strip()), "")
    return Reason(f"it ended with {ended(end)}" + (f"; its last line was: {last[:300]}" if last else ""))


def ended(end: Exit) -> str:
    """`exit code 1`, `signal 9 (SIGKILL)`, with who did it."""
    if end.signal is not None:
        try:
            how = f"signal {end.signal} ({signal.Signals(end.signal).name})"
        except ValueError:
            how = f"signal {end.signal}"
    elif end.code is not None:
        how = f"exit code {end.code}"
    else:
        how = "no exit code"
    return f"{how}, {end.cause}" if end.cause else how
