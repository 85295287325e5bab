"""Quantizer: one way an engine makes weights smaller while it loads them, and when it may be asked to."""

from collections.abc import Mapping
from dataclasses import dataclass

from modelport.domain.facts import ModelFacts
from modelport.domain.plan import Device
from modelport.engines.flags import ALWAYS, Range
from modelport.errors import ModelportError, nearest


@dataclass(frozen=True, slots=True)
class Quantizer:
    """A value of a Spec's `quantization`, in one engine's words."""

    argv: tuple[str, ...]
    versions: Range = ALWAYS
    fp8: bool = False
    """Whether it needs FP8 tensor cores (fp8e4nv)."""


def version_for(table: Mapping[str, Quantizer], wanted: str, newest: str) -> str:
    """The version to aim at where none is installed: the newest that can quantize so."""
    return (table[wanted].versions.until if wanted in table else "") or newest


def quantizer(
    engine: str,
    version: str,
    table: Mapping[str, Quantizer],
    facts: ModelFacts,
    wanted: str,
    device: Device,
    installed: bool = True,
) -> tuple[tuple[str, ...], str]:
    """The arguments for it, and a sentence where there are none although it was wanted.

    `installed`: whether `version` is the one that is here; else what another version can do is offered too.

    Never another method than the one that was asked for. Raises ModelportError where the engine does not have it, the
    device cannot compute it, or the files are quantized in another way already.
    """
    if not wanted:
        return (), ""
    if facts.quantized:
        stored = facts.quantized.method
        if wanted.partition("-")[0] in (stored, stored.partition("-")[0]):
            return (), f"The files are {stored} already: they are loaded as they are, and not quantized again."
        raise ModelportError(
            f"{facts.source!r} is quantized already ({stored}, {facts.quantized.bits:g} bit) and cannot be made "
            f"{wanted} on top of it: leave quantization out, or name the files that are not quantized.",
            param="quantization",
        )
    usable = [name for name, row in table.items() if not installed or row.versions.holds(version)]
    if wanted not in usable:
        elsewhere = f" (only {engine} {table[wanted].versions} has it)" if wanted in table else ""
        raise ModelportError(
            f"{engine} {version} cannot make weights {wanted} while it loads them{elsewhere}.{nearest(wanted, usable)} "
            f"It has {', '.join(usable) or 'none'}; files that are quantized already (AWQ, GPTQ, compressed-tensors) "
            "need no setting.",
            param="quantization",
        )
    row = table[wanted]
    if row.fp8 and (device.kind == "cpu" or (device.gpu and not device.gpu.fp8)):
        instead = (
            f"int8wo works on {device.name}: set quantization int8wo"
            if "int8wo" in usable and device.kind == "gpu"
            else "use files that are quantized to int8, AWQ or GPTQ already, or sglang with quantization int8wo"
        )
        raise ModelportError(
            f"quantization {wanted} needs Hopper or newer (FP8 tensor cores), which {device.name} is not; {instead}.",
            param="quantization",
        )
    return row.argv, ""
