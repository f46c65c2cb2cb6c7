"""What a class activation map of an mmdet detector explains: the score of a box."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from unittest import mock

from mmengine.model import BaseModel
from torch import Tensor

from attn_mm.errors import UserError
from attn_mm.frameworks.prediction import Target


def box_target(model: BaseModel, inputs: Tensor, index: int, valid: tuple[float, float] = (1, 1)) -> Target:
    """The score of one box that an mmdet detector predicts.

    Args:
        inputs: ``(1, C, h, w)``.
        index: of the box among the predictions, the best first: that of ``detector``'s objects, too.
        valid: the part of the input's height and width that is the image, as ``View.valid``.

    Raises:
        UserError: when run, where the model predicts no boxes, or not so many.
    """

    def run() -> Tensor:
        found = _instances(model, inputs, valid)
        if not 0 <= index < len(found):
            raise UserError(f"there is no box {index}: the model predicts {len(found)} in this image")
        return found.scores[index]

    return run


def detected_class_target(
    model: BaseModel, inputs: Tensor, label: int, valid: tuple[float, float] = (1, 1)
) -> Target:
    """The sum of the scores of all boxes of a class that an mmdet detector predicts; 0 where there is none.

    Args:
        inputs, valid: as of :func:`box_target`.
        label: the class.

    Raises:
        UserError: when run, where the model predicts no boxes.
    """

    def run() -> Tensor:
        found = _instances(model, inputs, valid)
        return found.scores[found.labels == label].sum()

    return run


def _instances(model: BaseModel, inputs: Tensor, valid: tuple[float, float]):
    from mmdet.structures import DetDataSample

    from attn_mm.frameworks.mmdet.predict import check_instances

    padded = tuple(inputs.shape[-2:])
    size = tuple(round(side * part) for side, part in zip(padded, valid, strict=True))
    meta = dict(
        img_id=0,
        img_shape=size,
        ori_shape=size,
        pad_shape=padded,
        batch_input_shape=padded,
        scale_factor=(1.0, 1.0),
    )
    with _attached_scores():
        (sample,) = model.predict(inputs, [DetDataSample(metainfo=meta)], rescale=False)
    check_instances(sample, model)
    return sample.pred_instances


@contextlib.contextmanager
def _attached_scores() -> Iterator[None]:
    """Let the boxes of mmdet's dense heads have scores that can be differentiated: they detach theirs."""
    from mmdet.models.utils import misc

    def attached(levels: Sequence[Tensor], image: int, detach: bool = True) -> list[Tensor]:
        return [level[image] for level in levels]

    with contextlib.ExitStack() as patches:
        for name, module in list(sys.modules.items()):
            if name.startswith("mmdet.models.dense_heads.") and hasattr(
                module, misc.select_single_mlvl.__name__
            ):
                patches.enter_context(mock.patch.object(module, misc.select_single_mlvl.__name__, attached))
        yield
