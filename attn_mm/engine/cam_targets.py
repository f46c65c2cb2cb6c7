"""What a class activation map explains, for the models of each framework, and the layers to look at.

A target is a function without arguments that runs the model on an input and gives a scalar: what
:func:`attn_mm.analysis.grad_cam.class_activation_maps` takes as ``score``. The inputs are the network's:
preprocessed, on its device, as ``View.inputs`` and ``ClipView.inputs`` of :mod:`attn_mm.engine.predictors`.

    layers = default_layers(model)
    maps = class_activation_maps(class_target(model, inputs, label), layers)
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

from torch import Tensor, nn

from attn_mm.errors import UserError
from attn_mm.graft.blocks import FeedbackMixin

Target = Callable[[], Tensor]


def class_target(model: nn.Module, inputs: Tensor, labels: int | Sequence[int]) -> Target:
    """The score of a class before softmax or sigmoid, of an mmpretrain classifier.

    (An LTPA head that averages its levels' probabilities gives their logarithm.)

    Args:
        inputs: ``(N, C, h, w)``.
        labels: the class, or one for each image.

    Raises:
        UserError: when run, where the model gives no scores of classes, or has no such class.
    """
    labels = [labels] * len(inputs) if isinstance(labels, int) else list(labels)

    def run() -> Tensor:
        scores = model(inputs, mode="tensor")
        _check_scores(model, scores, max(labels))
        return scores[range(len(labels)), labels].sum()

    return run


def action_target(model: nn.Module, inputs: Tensor, label: int) -> Target:
    """The score of an action before softmax, of an mmaction recogniser that sees frames.

    Args:
        inputs: ``(clips, C, T, h, w)``, or ``(frames, C, h, w)`` of a 2D network.

    Raises:
        UserError: when run, where the model gives no scores of classes, or has no such class.
    """

    def run() -> Tensor:
        scores = model(inputs[None], mode="tensor", stage="head")
        _check_scores(model, scores, label)
        return scores[:, label].sum()

    return run


def keypoint_target(model: nn.Module, inputs: Tensor, keypoint: int) -> Target:
    """The maximum of a keypoint's heatmap, of an mmpose model.

    Args:
        inputs: ``(N, C, h, w)``, the crop of a person each.
        keypoint: its place among the model's.

    Raises:
        UserError: when run, where the model gives no heatmaps, or has no such keypoint.
    """

    def run() -> Tensor:
        heatmaps = model(inputs, None, mode="tensor")
        if not isinstance(heatmaps, Tensor) or heatmaps.dim() != 4:
            raise UserError(f"{type(model).__name__} gives no heatmaps of keypoints")
        if not 0 <= keypoint < heatmaps.shape[1]:
            raise UserError(f"there is no keypoint {keypoint}: the model knows 0 to {heatmaps.shape[1] - 1}")
        return heatmaps[:, keypoint].amax((1, 2)).sum()

    return run


def box_target(model: nn.Module, inputs: Tensor, index: int, valid: tuple[float, float] = (1, 1)) -> Target:
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
    model: nn.Module, inputs: Tensor, label: int, valid: tuple[float, float] = (1, 1)
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


def _check_scores(model: nn.Module, scores: object, label: int) -> None:
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        raise UserError(f"{type(model).__name__} gives no scores of classes: a classifier is needed")
    if not 0 <= label < scores.shape[1]:
        raise UserError(f"there is no class {label}: the model knows 0 to {scores.shape[1] - 1}")


def _instances(model: nn.Module, inputs: Tensor, valid: tuple[float, float]):
    from mmdet.structures import DetDataSample

    from attn_mm.engine.predictors.detection import check_instances

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


def default_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of a model's backbone whose maps are worth a look, from the input to the output.

    Of a backbone in stages the last block of each; where it feeds back (TD), also the norm that ends each
    step, ``layer4 step 1`` and so on. Of a VGG the last layer of each group before the pooling. Of any other
    backbone its last convolution.

    Raises:
        UserError: the backbone has no convolution.
    """
    backbone = getattr(model, "backbone", model)
    layers: dict[str, nn.Module] = {}
    for name, stage in _stages(backbone):
        last = list(stage)[-1] if isinstance(stage, nn.Sequential) else stage
        if isinstance(last, FeedbackMixin):
            layers.update({f"{name} step {t}": norm for t, norm in enumerate(_step_norms(last), 1)})
        layers[name] = last
    if layers:
        return layers
    convs = [(n, m) for n, m in backbone.named_modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    if not convs:
        raise UserError(f"{type(backbone).__name__} has no convolution that a map could be made of")
    return dict(convs[-1:])


def _stages(backbone: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    names = getattr(backbone, "res_layers", None) or getattr(backbone, "layers", ())
    if names and all(isinstance(name, str) for name in names):
        yield from ((name, getattr(backbone, name)) for name in names)
    elif isinstance(getattr(backbone, "features", None), nn.Sequential):
        yield from _before_pools(backbone.features)
    else:
        for attribute in ("groups", "stages"):
            parts = getattr(backbone, attribute, None)
            if isinstance(parts, nn.ModuleList):
                yield from ((f"{attribute}.{index}", part) for index, part in enumerate(parts))


def _before_pools(features: nn.Sequential) -> Iterator[tuple[str, nn.Module]]:
    """The last layer of each group, without those that hold nothing but pools."""
    previous = None
    for name, layer in [*features.named_children(), ("", None)]:
        pools = isinstance(layer, nn.MaxPool2d)
        if (layer is None or pools) and previous is not None:
            yield f"features.{previous[0]}", previous[1]
        previous = None if pools else (name, layer)


def _step_norms(block: FeedbackMixin) -> list[nn.Module]:
    """The norm after the last convolution in each step: what the paper calls X_t^N comes out of it."""
    last = block.family.units(block)[-1]
    if not block.td.distance:
        return []
    return [last.norm, *(norms[last.name] for norms in block.td.norms)]
