"""From a config and a checkpoint to a function that predicts on one image and draws what it found."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from attn_mm.errors import UserError

# Labels and lines have a fixed size in pixels: smaller images are drawn enlarged.
MIN_PICTURE_SIDE = 480


@dataclass
class Prediction:
    """What a predictor gives for an image.

    Attributes:
        objects: one dict per object, ready for JSON.
        picture: the image with the objects drawn, uint8 BGR.
        inputs: the network's input, (1, C, H, W): resized, normalised, padded.
        valid: the part of the input's height and width, from the top left
            corner, that is the image; the rest is padding.
    """

    objects: list[dict]
    picture: np.ndarray
    inputs: Tensor
    valid: tuple[float, float]


Predictor = Callable[[np.ndarray], Prediction]


def load_model(cfg: Config, checkpoint: str, device: str) -> nn.Module:
    """Build a config's model for inference and give it a checkpoint's weights.

    The model gets a ``dataset_meta`` (classes, palette): the checkpoint's, else
    that of the config's test set.

    Raises:
        UserError: the checkpoint does not fit the model, or there is no such device.
        CheckpointError: the file can't be loaded.
    """
    init_default_scope(cfg.default_scope)
    content = CheckpointLoader.load_checkpoint(checkpoint, map_location="cpu")
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    _fill(model, content.get("state_dict", content), f"{checkpoint} does not fit {cfg.filename}")
    model.dataset_meta = _dataset_meta(cfg, content)
    try:
        model.to(device)
    except (AssertionError, RuntimeError) as error:
        raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from error
    return model.eval()


def _fill(model: nn.Module, weights: dict, complaint: str) -> None:
    weights = {str(key).removeprefix("module."): value for key, value in weights.items()}
    advice = "use the config that its training left beside it"
    try:
        report = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        # A heading, then a line for each weight.
        reason = str(error).splitlines()[1].strip(" \t.")
        raise UserError(f"{complaint}: {reason}; {advice}") from error
    parameters = [name for name, _ in model.named_parameters()]
    missing = [name for name in parameters if name in set(report.missing_keys)]
    if missing:
        raise UserError(
            f"{complaint}: it lacks {len(missing)} of the model's {len(parameters)} parameters, "
            f"such as {missing[0]}; {advice}"
        )


def _dataset_meta(cfg: Config, checkpoint: dict) -> dict:
    saved = checkpoint.get("meta") or {}
    # 'CLASSES' is how the versions before mmengine spelt it.
    meta = {key.lower(): value for key, value in saved.get("dataset_meta", saved).items()}
    if "classes" not in meta:
        dataset = copy.deepcopy(cfg.test_dataloader.dataset)
        dataset.lazy_init = True
        meta = DATASETS.build(dataset).metainfo
    palette = meta.get("palette")
    if isinstance(palette, (list, tuple)) and len(palette) < len(meta["classes"]):
        palette = None
    return {"classes": tuple(meta["classes"]), "palette": palette or "random"}


def detector(model: nn.Module, cfg: Config, score_thr: float) -> Predictor:
    """Detection, and instance segmentation, with an mmdet model.

    An object is ``{"class", "label", "score", "bbox"}``, for a segmenter with
    ``"segmentation"``, too: the box is x1, y1, x2, y2 in pixels of the image, the
    mask COCO's compressed run-length code.

    Args:
        model: the model, with ``dataset_meta``.
        cfg: its config, for the test pipeline.
        score_thr: objects of a lower score are left out.
    """
    from mmcv.transforms import Compose
    from mmdet.structures.mask import encode_mask_results
    from mmdet.utils import get_test_pipeline_cfg
    from mmdet.visualization import DetLocalVisualizer

    steps = copy.deepcopy(get_test_pipeline_cfg(cfg))
    steps[0].type = "mmdet.LoadImageFromNDArray"
    pipeline = Compose(steps)
    visualizer = DetLocalVisualizer(name="attn_mm_infer")
    visualizer.dataset_meta = model.dataset_meta
    classes = model.dataset_meta["classes"]

    def describe(instances) -> list[dict]:
        objects = [
            {
                "class": classes[label],
                "label": label,
                "score": round(score, 5),
                "bbox": [round(side, 2) for side in box],
            }
            for label, score, box in zip(
                instances.labels.tolist(), instances.scores.tolist(), instances.bboxes.tolist(), strict=True
            )
        ]
        if "masks" in instances:
            for item, code in zip(objects, encode_mask_results(instances.masks.numpy()), strict=True):
                item["segmentation"] = {"size": code["size"], "counts": code["counts"].decode("ascii")}
        return objects

    def draw(image: np.ndarray, sample) -> np.ndarray:
        zoom = MIN_PICTURE_SIDE / max(image.shape[:2])
        if zoom > 1:
            image = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
            sample = sample.clone()
            sample.pred_instances = _enlarged(sample.pred_instances, zoom, image.shape[:2])
        with warnings.catch_warnings():
            # A label or an outline that touches the border.
            warnings.filterwarnings("ignore", message=".* is out of bounds")
            visualizer.add_datasample("", image[..., ::-1], sample, draw_gt=False, pred_score_thr=score_thr)
        return visualizer.get_image()[..., ::-1]

    @torch.no_grad()
    def predict(image: np.ndarray) -> Prediction:
        data = pipeline({"img": image, "img_id": 0})
        batch = {"inputs": [data["inputs"]], "data_samples": [data["data_samples"]]}
        batch = model.data_preprocessor(batch, False)
        sample = model(**batch, mode="predict")[0].cpu()
        sample.pred_instances = sample.pred_instances[sample.pred_instances.scores > score_thr]
        return Prediction(
            objects=describe(sample.pred_instances),
            picture=draw(image, sample),
            inputs=batch["inputs"],
            valid=_valid_part(sample.metainfo, batch["inputs"].shape[-2:]),
        )

    return predict


def _enlarged(instances, zoom: float, size: tuple[int, int]):
    instances = instances.clone()
    instances.bboxes = instances.bboxes * zoom
    if "masks" in instances:
        instances.masks = F.interpolate(instances.masks[:, None].float(), size)[:, 0] > 0.5
    return instances


def _valid_part(meta: dict, padded: tuple[int, int]) -> tuple[float, float]:
    height, width = meta["img_shape"]
    if "scale_factor" in meta:
        # A pipeline that pads says the padded size in img_shape.
        height, width = (
            side * by for side, by in zip(meta["ori_shape"], meta["scale_factor"][::-1], strict=True)
        )
    return min(1.0, height / padded[0]), min(1.0, width / padded[1])


# By default_scope, the name under which a framework's configs are known.
PREDICTORS: dict[str, Callable[[nn.Module, Config, float], Predictor]] = {"mmdet": detector}
