"""The parent of an inference microservice: a finished training, and which of its checkpoints is served."""

import posixpath
from collections.abc import Mapping

from modelport.domain.experiment import Choice, Experiment
from modelport.domain.verbs import Verbs
from modelport.domain.workspace import Workspace
from modelport.errors import NOT_FOUND, ModelportError

FOLDER_NETWORKS = frozenset({"cosmos-rl", "cosmos-predict2.5", "tao-dataservices"})
"""Networks whose model is a folder, where a checkpoint may name a file in it (`spec_params.inference.model_path` of
NVIDIA's network configs holds the word "folder")."""
FILES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".onnx", ".tlt", ".hdf5")
CLOUDS = {"aws": "s3", "azure": "az"}
"""Schemes of TAO's own, and those they mean here."""


def network(name: str) -> str:
    """One spelling of a network: the published CLI writes cosmos_rl for cosmos-rl."""
    return name.strip().lower().replace("_", "-")


def source(path: str) -> str:
    """A model path as a Spec has it: `hf_model://org/name` is a Hub id, `aws://` is `s3://`."""
    path = path.strip().removeprefix("hf_model://")
    scheme, found, rest = path.partition("://")
    return f"{CLOUDS.get(scheme, scheme)}://{rest}" if found else path


def parent(verbs: Verbs, org: str, parent_id: str) -> Experiment:
    """The finished training of that id. Raises ModelportError (400) with the documented sentences."""
    found = registered(verbs, org, parent_id)
    begin = f"Cannot start inference microservice: parent job {parent_id[:80]}"
    if found is None:
        raise ModelportError(f"{begin} not found", param="parent_job_id")
    if found.status != "Done":
        raise ModelportError(f"{begin} is not in 'Done' state (current status: {found.status})", param="parent_job_id")
    return found


def registered(verbs: Verbs, org: str, experiment_id: str) -> Experiment | None:
    """The organisation's experiment of that id."""
    found = [e for e in verbs.list_experiments() if e.id == experiment_id.lower() and e.org in ("", org)]
    return found[0] if found else None


def checkpoint(
    experiment: Experiment,
    arch: str,
    how: Choice,
    epochs: Mapping[str, int | None] | int | None,
    where: Workspace | None,
) -> str:
    """The path or URI of the checkpoint that is wanted; relative ones lie in the bucket `where`. Raises ModelportError
    (400) where there is none such."""
    epoch = epochs.get(f"{how}_{experiment.id}") if isinstance(epochs, Mapping) else epochs
    if how == "from_epoch_number" and epoch is None:
        raise ModelportError(
            f"from_epoch_number needs the epoch: checkpoint_epoch_number {{'from_epoch_number_{experiment.id}': N}}.",
            param="checkpoint_epoch_number",
        )
    found = experiment.choose(how, epoch)
    if found is None:
        epochs_known = ", ".join(str(c.epoch) for c in experiment.checkpoints[:20])
        raise ModelportError(
            f"Parent job {experiment.id} has no checkpoint of epoch {epoch}; it has {epochs_known}.",
            param="checkpoint_epoch_number",
        )
    path = source(found.path)
    if network(arch) in FOLDER_NETWORKS and path.lower().endswith(FILES):
        path = posixpath.dirname(path)
    if where is not None and "://" not in path and not path.startswith("/"):
        path = where.uri(path)
    return path


def workspace(verbs: Verbs, wanted: str) -> Workspace:
    """The workspace of that name or id. Raises ModelportError (404)."""
    for found in verbs.list_workspaces():
        if wanted in (found.name, found.id):
            return found
    raise ModelportError(f"Workspace {wanted[:80]!r} not found.", NOT_FOUND, param="workspace")
