"""Check the labels of mmaction's data sets: one beyond the classes crashes, or always counts as an error."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from torch import nn

from attn_mm.errors import UserError

# What tells the clip of a sample, in the sets of videos, frames, sound and skeletons.
_CLIP = ("filename", "frame_dir", "audio_path", "offset", "total_frames", "start_index")


def check_action_labels(model: nn.Module, dataset: BaseDataset) -> None:
    """Check that each sample has labels that the network's head can predict.

    Args:
        model: a recogniser; other networks pass.
        dataset: a data set whose samples have a ``label``, a number or several; others pass.

    Raises:
        UserError: a label isn't one of the head's classes, or the same clip is listed with two labels.
    """
    head = getattr(getattr(model, "module", model), "cls_head", None)
    number = getattr(head, "num_classes", None)
    if not isinstance(number, int):
        return
    several = getattr(dataset, "multi_class", False)
    if several and dataset.num_classes != number:
        raise UserError(
            f"{dataset.ann_file}: its data set has num_classes={dataset.num_classes} in the config, but "
            f"model.cls_head has {number}: make them the same"
        )
    known: dict[tuple, list] = {}
    for index in range(len(dataset)):
        # The base class's method, because mmaction's makes several labels a vector.
        info = BaseDataset.get_data_info(dataset, index)
        if "label" not in info:
            return
        labels = np.ravel(info["label"]).tolist()
        clip = tuple(repr(info.get(key)) for key in _CLIP)
        if known.setdefault(clip, labels) != labels:
            raise UserError(
                f"{dataset.ann_file}: {_named(info, index)} is listed with the label {known[clip]!r:.40} and "
                f"again with {labels!r:.40}: keep one, or use multi_class=True and write all on one line"
            )
        for label in labels or [None]:
            if not _is_class(label, number):
                raise UserError(
                    f"{dataset.ann_file}: {_named(info, index)} has the label {label!r:.40}, which is not in "
                    f"0..{number - 1}: correct it or the config's model.cls_head.num_classes"
                )


def _is_class(label: Any, number: int) -> bool:
    return isinstance(label, (int, float)) and not isinstance(label, bool) and label in range(number)


def _named(info: dict, index: int) -> str:
    named = (info.get(key) for key in ("filename", "frame_dir", "audio_path"))
    return str(next(filter(None, named), f"sample {index}"))
