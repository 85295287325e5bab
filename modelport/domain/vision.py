"""Vision: what `vision.json` says of the ONNX model that lies beside it: how a picture becomes its input, and what its
output means."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from modelport.domain.presets import PRESETS
from modelport.errors import MODEL_NOT_FOUND, ModelportError, nearest

Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1, le=8192)]
Channels = tuple[float, ...]


def _listed(value: object) -> object:
    """Options are scalars: `0.5,0.5,0.5` is a list of three, and one number is a list of one."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, int | float) else value


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Input(_Part):
    """How a picture becomes the model's input: resized, put into its colours, then `(pixel × scale - mean) / std`."""

    width: Side | None = None
    """Pixels; where not given, the graph's own."""
    height: Side | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    """Where not given, the graph's own."""
    dtype: Literal["float32", "float16", "uint8"] | None = None
    """Where not given, the graph's own."""
    color: Literal["RGB", "BGR", "GRAY"] = "RGB"
    resize: Literal["stretch", "shortest_crop", "letterbox"] = "stretch"
    """To the size as it is; so that the middle of it fills the size; or whole, with bars."""
    crop: Annotated[float, Field(ge=0.1, le=1)] = 1.0
    """Of `shortest_crop`: the share of the resized picture's shorter side that is kept, 224 of 256 for example."""
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    antialias: bool = True
    """Whether a pixel of a picture made smaller sees all that it covers, as Pillow and torchvision do it and OpenCV
    does not."""
    pad: Annotated[int, Field(ge=0, le=255)] = 114
    """The grey of `letterbox`'s bars."""
    pad_at: Literal["both", "end"] = "both"
    """Where the bars are: on both sides, or right and below."""
    scale: float = 1 / 255
    mean: Annotated[Channels, BeforeValidator(_listed), Field(min_length=1, max_length=3)] = (0.0,)
    """One number, or one for each channel in the order of `color`."""
    std: Annotated[Channels, BeforeValidator(_listed), Field(min_length=1, max_length=3)] = (1.0,)

    @model_validator(mode="after")
    def _one_per_channel(self) -> "Input":
        channels = 1 if self.color == "GRAY" else 3
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (1, channels):
                raise ValueError(f"{name} has {len(numbers)} numbers, where {self.color} has {channels} channels")
        if not all(self.std):
            raise ValueError("std holds a 0, by which nothing can be divided")
        if self.dtype == "uint8" and (self.scale != 1 or any(self.mean) or set(self.std) != {1.0}):
            raise ValueError("a uint8 input takes pixels as they are: scale 1, mean 0, std 1")
        return self


class Boxes(_Part):
    """What a detector's output means."""

    head: Literal["one", "two", "ready", "grid"] = "two"
    """`one`: a tensor with a box and scores for each candidate. `two`: scores and boxes apart. `ready`: one
    tensor of rows with box, score and class. `grid`: DetectNet_v2's coverage and edges for each cell."""
    format: Literal["xyxy", "xywh", "cxcywh"] = "xyxy"
    normalized: bool = False
    """Shares of the input's width and height, instead of its pixels."""
    scores: Literal["sigmoid", "softmax", "none"] = "none"
    """What makes probabilities of what the graph gives; `none` where they are some already."""
    no_object: bool = False
    """Whether the last class means that there is nothing."""
    objectness: bool = False
    """Of `one`: whether the fifth number multiplies all scores."""
    several: bool = False
    """Whether one candidate can be several classes at once; else it is its best one."""
    channels_first: bool = False
    """Of `one`: (numbers, candidates) instead of (candidates, numbers)."""
    first_label: Annotated[int, Field(ge=0, le=1)] = 0
    """The class that the first label names; 1 where class 0 is unused."""
    outputs: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(max_length=2)] = ()
    """The graph's names: of `one` and `ready` its output, else scores, then boxes. Where not given, told by shape."""
    stride: Annotated[int, Field(ge=1, le=256)] = 16
    """Of `grid`: pixels of the input that one cell covers."""
    norm: Annotated[float, Field(gt=0)] = 35.0
    """Of `grid`: pixels that an edge's 1.0 means."""


class Vision(_Part):
    """The whole of vision.json, the preset's values filled in."""

    task: Literal["classify", "detect"]
    preset: str = ""
    input: Input = Input()
    labels: tuple[str, ...] | str = ()
    """Names in the order of classes, or the file beside the model that has them: one a line, `label;label`, a YAML or
    JSON list or mapping."""
    scores: Literal["sigmoid", "softmax", "none"] = "softmax"
    """Of a classifier: what makes probabilities of its output."""
    boxes: Boxes = Boxes()
    top_k: Annotated[int, Field(ge=1, le=1000)] = 5
    score: Share = 0.25
    """Boxes below are left out, where a request does not say otherwise."""
    nms: bool = True
    """Whether boxes of one class that overlap too much are one; DETR's kind gives none twice."""
    nms_iou: Share = 0.45
    most: Annotated[int, Field(ge=1, le=3000)] = 300
    """Boxes of one picture, the best ones."""


def onnx_name(names: Iterable[str]) -> str:
    """Which file of a directory is the model: the only `.onnx` file, or `model.onnx` of several."""
    models = sorted(name for name in names if name.lower().endswith(".onnx"))
    if not models:
        raise ModelportError("The model's directory holds no .onnx file.", MODEL_NOT_FOUND, param="model")
    if len(models) > 1 and "model.onnx" not in models:
        shown = ", ".join(models[:5]) + (", ..." if len(models) > 5 else "")
        raise ModelportError(
            f"The model's directory holds {len(models)} .onnx files; name one: {shown}.", param="model"
        )
    return models[0] if len(models) == 1 else "model.onnx"


def parse_vision(data: object, where: str = "vision.json", options: Mapping[str, Any] | None = None) -> Vision:
    """A Vision from JSON's values and from a service's options, which win: `score`, `input.width`.

    Raises ModelportError with one sentence a problem, with the nearest known key for an unknown one.
    """
    if not isinstance(data, dict):
        raise ModelportError(f"{where} must be a mapping of keys to values, not {type(data).__name__}.")
    given = _merged(cast(dict[str, Any], data), _nested(options or {}))
    if isinstance(labels := given.get("labels"), str) and ";" in labels:
        given["labels"] = [part.strip() for part in labels.split(";")]
    preset: Any = given.get("preset", "")
    if preset != "" and (not isinstance(preset, str) or preset not in PRESETS):
        raise ModelportError(
            f"{where} has the unknown preset {str(preset)[:80]!r}; there are {', '.join(PRESETS)}."
            f"{nearest(str(preset)[:80], PRESETS)}"
        )
    filled = _merged(PRESETS[preset], given) if preset else given
    try:
        return Vision.model_validate(filled)
    except ValidationError as error:
        raise ModelportError(" ".join(_sentence(e, where) for e in error.errors(include_url=False))) from None


OPTIONS = (
    *(name for name in Vision.model_fields if name not in ("input", "boxes", "task")),
    *(f"input.{name}" for name in Input.model_fields),
    *(f"boxes.{name}" for name in Boxes.model_fields),
)
"""What of vision.json a service's options may say."""


def _nested(options: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in options.items():
        part, dot, name = key.partition(".")
        if dot:
            made.setdefault(part, {})[name] = value
        else:
            made[key] = value
    return made


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(under)
    for key, value in over.items():
        below = made.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        made[key] = {**cast(dict[str, Any], below), **cast(dict[str, Any], value)} if both else value
    return made


def _sentence(error: Any, where: str) -> str:
    """One pydantic error as a sentence of ours."""
    path = [str(part) for part in error["loc"] if not isinstance(part, int) and "[" not in str(part)]
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        model = {"input": Input, "boxes": Boxes}.get(path[0], Vision) if len(path) > 1 else Vision
        return f"{where} has the unknown key {key[:80]!r}.{nearest(path[-1], list(model.model_fields))}"
    if error["type"] == "missing":
        return f"{where} lacks the key {key!r}."
    what = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    shown = repr(error["input"]) if isinstance(error["input"], str | int | float | bool) else ""
    said = f" is {shown[:80]}, but" if shown else ":"
    return f"{where}: {key or 'it'}{said} {what[:1].lower() + what[1:]}."
