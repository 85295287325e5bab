"""Experiment: a finished training whose model can be served: what TAO calls the parent of an inference microservice."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Status = Literal["Pending", "Running", "Done", "Error", "Canceled", "Paused"]
Choice = Literal["best_model", "latest_model", "from_epoch_number"]


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("it is shown in lists, so it has printable characters only")
    return value


Shown = AfterValidator(_printable)


class Checkpoint(BaseModel):
    """One model that the training left."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, Shown, Field(min_length=1, max_length=2048)]
    """A file, a folder or a cloud URI."""
    epoch: Annotated[int, Field(ge=0)] = 0
    score: float | None = None
    """Of its evaluation: the higher the better."""


class Experiment(BaseModel):
    """What is known of a training: which kind of network, how it stands, and its checkpoints."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Shown, Field(min_length=1, max_length=36)]
    """A UUID: the job id of the training."""
    name: Annotated[str, Shown, Field(max_length=256)] = ""
    org: Annotated[str, Shown, Field(max_length=255)] = ""
    network_arch: Annotated[str, Shown, Field(max_length=128)] = ""
    status: Status = "Done"
    checkpoints: Annotated[tuple[Checkpoint, ...], Field(max_length=4096)] = ()
    workspace: Annotated[str, Field(max_length=63)] = ""
    """The workspace that the checkpoints are in, by name."""

    @model_validator(mode="after")
    def _done_has_model(self) -> "Experiment":
        if self.status == "Done" and not self.checkpoints:
            raise ValueError("an experiment that is Done has at least one checkpoint")
        return self

    def choose(self, how: Choice = "best_model", epoch: int | None = None) -> Checkpoint | None:
        """The best by score (the latest where none has one), the latest, or the one of an epoch; None where there is
        none such."""
        if how == "from_epoch_number":
            return next((found for found in self.checkpoints if found.epoch == epoch), None)
        scored = [found for found in self.checkpoints if found.score is not None]
        if how == "best_model" and scored:
            return max(scored, key=lambda found: (found.score or 0.0, found.epoch))
        return max(self.checkpoints, key=lambda found: found.epoch, default=None)
