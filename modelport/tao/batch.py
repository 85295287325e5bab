"""Batch inference: TAO's one-time job with the action `inference` becomes a Spec with a Batch."""

from typing import Any

from modelport.domain.spec import Spec, parse_spec
from modelport.domain.verbs import Verbs
from modelport.domain.workspace import Workspace
from modelport.errors import ModelportError
from modelport.tao.parents import source, workspace
from modelport.tao.start import StartBody, model, read

ACTION = "inference"
OWN = ("input", "results_dir", "request")
"""Keys of `specs` that are about the folders; the rest says which model, or is part of each request."""


def batch_spec(verbs: Verbs, body: dict[str, Any], org: str, experiment: str = "") -> Spec:
    """The job over a folder that a body asks for. Raises ModelportError (400, 404)."""
    if body.get("action") != ACTION:
        given = str(body.get("action"))[:80]
        raise ModelportError(
            f"Modelport serves models and trains none: it has the action {ACTION!r}, not {given!r}.", param="action"
        )
    specs: Any = body.get("specs") or {}
    if not isinstance(specs, dict):
        raise ModelportError("The request's 'specs' must be a JSON object.", param="specs")
    start = {key: value for key, value in {**specs, **_counted(body)}.items() if key in StartBody.model_fields}
    parts = model(verbs, read(start), org, experiment)
    where = workspace(verbs, parts["workspace"]) if parts["workspace"] else None
    request = {key: value for key, value in specs.items() if key not in StartBody.model_fields and key not in OWN}
    batch = {
        "input": _folder(body, specs, where),
        "results": _results(specs, where, parts["name"]),
        "request": {**request, **_request(specs)},
    }
    labels = {"tao.action": ACTION, **parts.pop("labels")}
    if isinstance(body.get("name"), str) and body["name"].isprintable():
        labels["tao.name"] = body["name"][:256]
    return parse_spec({**parts, "batch": batch, "labels": labels, "idle_timeout": 0}, "the request")


def _counted(body: dict[str, Any]) -> dict[str, Any]:
    """The body without what is empty, its GPUs by the name that starts have for them."""
    given = {key: value for key, value in body.items() if value is not None}
    return {**given, "num_gpus": given["num_gpu"]} if "num_gpu" in given else given


def _folder(body: dict[str, Any], specs: dict[str, Any], where: Workspace | None) -> str:
    found: Any = body.get("inference_dataset_uri") or specs.get("input")
    if not isinstance(found, str) or not found.strip():
        if body.get("inference_dataset"):
            raise ModelportError(
                "Modelport keeps no datasets: name the folder itself, inference_dataset_uri: aws://bucket/images.",
                param="inference_dataset",
            )
        raise ModelportError(
            "A batch needs the folder of its files: inference_dataset_uri, or specs.input.",
            param="inference_dataset_uri",
        )
    return _placed(found, where)


def _results(specs: dict[str, Any], where: Workspace | None, name: str) -> str:
    found: Any = specs.get("results_dir")
    if isinstance(found, str) and found.strip():
        return _placed(found, where)
    if where is None:
        raise ModelportError(
            "A batch needs a folder for its answers: specs.results_dir, or a workspace to put them in.",
            param="results_dir",
        )
    return where.uri(f"results/{name}")


def _request(specs: dict[str, Any]) -> dict[str, Any]:
    found: Any = specs.get("request", {})
    if not isinstance(found, dict):
        raise ModelportError("specs.request must be a JSON object: what each request says.", param="request")
    return found


def _placed(path: str, where: Workspace | None) -> str:
    """The folder, in the workspace's bucket where it is relative."""
    path = source(path)
    if where is not None and "://" not in path and not path.startswith("/"):
        return where.uri(path)
    return path
