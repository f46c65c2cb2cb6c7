"""The score that Grad-CAM explains for an mmdet detector: that of one box."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from mmengine.model import BaseModel
from torch import Tensor

from attn_mm.errors import UserError
from attn_mm.frameworks.mmdet.predict import check_instances
from attn_mm.frameworks.prediction import Target


def box_target(model: BaseModel, inputs: Tensor, index: int, valid: tuple[float, float] = (1, 1)) -> Target:
    """The score of one predicted box.

    Args:
        model: an mmdet detector.
        inputs: ``(1, C, h, w)``.
        index: of the box among the predictions, highest score first, as in the objects of ``detector``.
        valid: the share of the input's height and width that is the image, as ``View.valid``.

    Raises:
        UserError: when run, if the model predicts no boxes, or too few.
    """

    def run() -> Tensor:
        found = _instances(model, inputs, valid)
        if not 0 <= index < len(found):
            raise UserError(f"there is no box {index}: the model predicts {len(found)} in this image")
        return found.scores[index]

    return run


def _instances(model: BaseModel, inputs: Tensor, valid: tuple[float, float]):
    from mmdet.structures import DetDataSample

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
    with _attached_scores(model):
        (sample,) = model.predict(inputs, [DetDataSample(metainfo=meta)], rescale=False)
    check_instances(sample, model)
    return sample.pred_instances


@contextlib.contextmanager
def _attached_scores(model: BaseModel) -> Iterator[None]:
    """Make the scores of dense heads differentiable while the context lasts."""
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    heads = [module for module in model.modules() if isinstance(module, BaseDenseHead)]
    hooks = [head.register_forward_hook(lambda head, inputs, outputs: _attached(outputs)) for head in heads]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _attached(outputs):
    if isinstance(outputs, (list, tuple)):
        return type(outputs)(map(_attached, outputs))
    return outputs.as_subclass(_Attached) if isinstance(outputs, Tensor) else outputs


class _Attached(Tensor):
    """A head's output whose ``detach``, and that of an item of it, keeps the gradient.

    mmdet's dense heads detach their outputs before they make boxes of them (mmdet/models/utils/misc.py,
    ``select_single_mlvl``). Any other operation returns a plain tensor.
    """

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            if func is Tensor.detach:
                return args[0].as_subclass(Tensor)
            found = func(*args, **(kwargs or {}))
            return found.as_subclass(cls) if func is Tensor.__getitem__ else found
