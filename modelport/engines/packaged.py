"""Packaged: what engines that come as a Python package have in common: where they are, in which version."""

from collections.abc import Mapping

from modelport.domain.facts import ModelFacts
from modelport.domain.plan import Device
from modelport.domain.spec import Spec
from modelport.engines.flags import Range
from modelport.engines.program import Program, find
from modelport.engines.quantizer import Quantizer, quantizer, version_for
from modelport.errors import ModelportError


class Packaged:
    """An engine of its own package. It looks for the package once, when it is first asked."""

    name: str
    oldest: str
    newest: str
    """Of the versions that were looked at: an older one is refused, a newer one is taken to be like the newest."""
    quantizers: Mapping[str, Quantizer]
    why_oldest = ""
    """What an older version lacks, as it follows `0.5.3 or newer is needed`."""

    def __init__(self) -> None:
        self._program: Program | None = None

    def version(self) -> str:
        """What is installed, without a build's own part; empty where that is not known."""
        return self._found().version.partition("+")[0]

    def _found(self) -> Program:
        self._program = self._program or find(self.name, self.name)
        return self._program

    def _aimed(self, spec: Spec) -> str:
        """The version that is installed, else the one to aim at. Raises ModelportError for one that is too old."""
        here = self.version()
        if here and not Range(since=self.oldest).holds(here):
            raise ModelportError(
                f"{self.name} {here} is installed; {self.oldest} or newer is needed{self.why_oldest}: "
                f"`pip install -U {self.name}`."
            )
        return here or version_for(self.quantizers, spec.quantization or "", self.newest)

    def _aimed_note(self, spec: Spec, version: str) -> tuple[str, ...]:
        """Said where the command is for an older version than the newest, because nothing is installed."""
        if self._found().version or version == self.newest:
            return ()
        return (f"The command is for {self.name} {version}: newer ones cannot make weights {spec.quantization}.",)

    def _quantizer(self, facts: ModelFacts, spec: Spec, device: Device, version: str) -> tuple[tuple[str, ...], str]:
        here = bool(self._found().version)
        return quantizer(self.name, version, self.quantizers, facts, spec.quantization or "", device, here)
