"""Presets: what the usual exports expect of a picture and mean by their output, each with its source. A table."""

from typing import Any

IMAGENET = {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""Mean and deviation of ImageNet's pixels, as torchvision and timm publish them."""
COVERED = {"resize": "shortest_crop", "crop": 0.875}
"""The middle 224 of 256."""

PRESETS: dict[str, dict[str, Any]] = {
    # torchvision/transforms/_presets.py, ImageClassification: resize_size 256, crop_size 224, bilinear, antialias.
    "torchvision": {"task": "classify", "scores": "softmax", "input": {**IMAGENET, **COVERED}},
    # timm/data/constants.py (DEFAULT_CROP_PCT 0.875, IMAGENET_DEFAULT_MEAN) and transforms_factory.py: bicubic. A model
    # of timm that has a config of its own says so in input.mean, input.std, input.crop.
    "timm": {"task": "classify", "scores": "softmax", "input": {**IMAGENET, **COVERED, "interpolation": "bicubic"}},
    # TAO's classification_pyt: tao_deploy's cv/classification_pyt/scripts/inference.py (mode torch, img_norm_cfg) and
    # cv/classification_tf1/dataloader.py (covers the size and 32 pixels more, bicubic); the graph ends in a softmax.
    "tao-classification": {
        "task": "classify",
        "scores": "none",
        "input": {**IMAGENET, **COVERED, "interpolation": "bicubic"},
    },
    # TAO's TensorFlow classifiers in mode caffe: inferencer/preprocess_input.py: BGR, no scale, ImageNet's mean.
    "tao-classification-caffe": {
        "task": "classify",
        "scores": "none",
        "input": {
            "color": "BGR", "scale": 1.0, "mean": [103.939, 116.779, 123.68], **COVERED, "interpolation": "bicubic",
        },
    },
    # The same in mode torch, whose deviation there is 0.224 for every channel.
    "tao-classification-torch": {
        "task": "classify",
        "scores": "none",
        "input": {**IMAGENET, "std": [0.224, 0.224, 0.224], **COVERED, "interpolation": "bicubic"},
    },
    # ultralytics YOLOv8 and later exports: output0 (1, 4 + classes, candidates), centre and size in input pixels,
    # probabilities, no objectness (ultralytics/utils/ops.py, non_max_suppression: conf 0.25, iou 0.45, max_det 300);
    # LetterBox in ultralytics/data/augment.py pads both sides with 114, OpenCV's bilinear.
    "yolov8": {
        "task": "detect",
        "input": {"scale": 1 / 255, "resize": "letterbox", "antialias": False},
        "boxes": {"head": "one", "format": "cxcywh", "channels_first": True},
    },
    # yolov5/utils/general.py, non_max_suppression: (1, candidates, 5 + classes), score = objectness × class.
    "yolov5": {
        "task": "detect",
        "input": {"scale": 1 / 255, "resize": "letterbox", "antialias": False},
        "boxes": {"head": "one", "format": "cxcywh", "objectness": True},
    },
    # ultralytics YOLOv10, YOLO26 and exports with nms=True: (1, 300, 6): edges in input pixels, score, class;
    # nothing is there twice (ultralytics/nn/modules/head.py, v10Detect and Detect.postprocess).
    "yolov10": {
        "task": "detect",
        "input": {"scale": 1 / 255, "resize": "letterbox", "antialias": False},
        "boxes": {"head": "ready"},
        "nms": False,
    },
    # facebookresearch/detr, models/detr.py, PostProcess: softmax without its last class, centre and size as shares; no
    # two boxes for one thing. Score 0.7 as in its notebook. The size is the graph's own, or input.width and height.
    "detr": {
        "task": "detect",
        "input": IMAGENET,
        "boxes": {"format": "cxcywh", "normalized": True, "scores": "softmax", "no_object": True},
        "nms": False,
        "score": 0.7,
        "most": 100,
    },
    # TAO's DINO and Deformable DETR: tao_deploy's cv/deformable_detr/utils.py (sigmoid, the best 100 of all classes),
    # dataloader.py (stretched by OpenCV's bilinear), cv/dino/scripts/inference.py (the first label is class 1).
    "tao-detection": {
        "task": "detect",
        "input": {**IMAGENET, "antialias": False},
        "boxes": {"format": "cxcywh", "normalized": True, "scores": "sigmoid", "several": True, "first_label": 1},
        "nms": False,
        "score": 0.5,
        "most": 100,
    },
    # TAO's DetectNet_v2: tao-toolkit-triton-apps, postprocessing/utils.py, denormalize_bounding_bboxes: cells of 16
    # pixels, centres half a pixel on, edges in units of 35 pixels. Its clustering (DBSCAN) is NMS here, as DeepStream's
    # cluster-mode 2 has it (threshold 0.4, IoU 0.5 as its samples have).
    "tao-detectnet": {
        "task": "detect",
        "input": {"scale": 1 / 255, "interpolation": "bicubic"},
        "boxes": {"head": "grid"},
        "score": 0.4,
        "nms_iou": 0.5,
    },
}  # fmt: skip
