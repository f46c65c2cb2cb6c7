"""Evaluate classifiers with top-down feedback by the predictions of their computation steps.

Jaiswal, Fernando & Tan, TDAM, ECCV 2022 (https://arxiv.org/abs/2111.13470), section 4.1. A step's prediction
is the output of the network when its last stage stops after that step, see :mod:`attn_mm.graft.early_stop`.
:mod:`attn_mm.frameworks.mmpretrain.step_choice` chooses between the predictions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor, nn

from attn_mm.errors import UserError
from attn_mm.frameworks.mmpretrain.cam_target import class_target
from attn_mm.frameworks.mmpretrain.step_choice import PROTOCOLS, best_guess, most_confident, unique_steps
from attn_mm.graft.early_stop import feedback_steps, stopped_after
from attn_mm.graft.swap import swap_class
from attn_mm.maps.boxes import map_box
from attn_mm.maps.cam_layers import default_layers
from attn_mm.maps.grad_cam import class_activation_maps
from attn_mm.maps.overlay import fit_to_image
from attn_mm.utils.extras import require

CONFIDENT_STEP = "attn_mm.ConfidentStep"


def add_steps_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--steps``, which chooses one of ``PROTOCOLS``."""
    parser.add_argument(
        "--steps",
        choices=list(PROTOCOLS),
        help="what counts as the prediction of a network with feedback (TD): that of the last step, of the "
        "most confident step, or any right one of the steps with unique maps, as in the TD paper "
        "(default: last; confident for attn_mm.ConfidentStep)",
    )


def shown_steps(steps: str) -> str:
    """What a result says of its protocol."""
    return f"steps: {steps} ({PROTOCOLS[steps]})"


def choose_steps(cfg: Config, steps: str | None) -> str:
    """Let a config's classifier predict at each step, and return the protocol.

    A classifier of type ``attn_mm.ConfidentStep`` becomes mmpretrain's ``ImageClassifier``, which has the
    same weights.

    Args:
        cfg: the config.
        steps: a key of ``PROTOCOLS``; None: ``'confident'`` for ``attn_mm.ConfidentStep``, else ``'last'``.
    """
    confident = isinstance(cfg.get("model"), dict) and cfg.model.get("type") == CONFIDENT_STEP
    if confident:
        cfg.model.type = "mmpretrain.ImageClassifier"
    return steps or ("confident" if confident else "last")


def check_steps(model: nn.Module, steps: str | None, about: str) -> None:
    """Check that a network can be evaluated by the protocol of ``--steps``; None always can.

    Args:
        model: an mmpretrain classifier.
        steps: a key of ``PROTOCOLS``, or None.
        about: the config's name.

    Raises:
        UserError: the network has no steps, or its images have several classes.
    """
    if steps is None:
        return
    if feedback_steps(model) == 1:
        raise UserError(
            f"--steps {steps}: the network of {about} has no steps: leave --steps out, or use a config with "
            "the graft attn_mm.TD"
        )
    if steps != "last" and type(getattr(model, "head", None)).__name__.startswith("MultiLabel"):
        raise UserError(f"--steps {steps}: {about} predicts several classes per image: use --steps last")
    if steps == "any":
        require("pytorch_grad_cam")


@torch.no_grad()
def step_scores(model: nn.Module, predict: Callable[[], list]) -> Tensor:
    """Compute the class probabilities at each step, ``(steps, images, classes)``.

    Args:
        model: an mmpretrain classifier.
        predict: runs the model on a batch and returns its data samples.

    Raises:
        UserError: the model predicts no class scores.
    """
    found = []
    for step in range(1, feedback_steps(model) + 1):
        with stopped_after(model, step):
            samples = predict()
        if any("pred_score" not in sample for sample in samples):
            raise UserError(f"{type(model).__name__} predicts no class scores: use a classifier")
        found.append(torch.stack([sample.pred_score for sample in samples]))
    return torch.stack(found)


def batch_step_scores(model: BaseModel, batch: dict) -> np.ndarray:
    """Compute :func:`step_scores` of a preprocessed batch, float64."""
    scores = step_scores(model, lambda: model(**batch, mode="predict"))
    return scores.double().cpu().numpy()


def step_maps(model: nn.Module, inputs: Tensor, labels: np.ndarray) -> np.ndarray:
    """Compute the Grad-CAM map of a class at each step on the input's pixels, ``(steps, images, h, w)``.

    Args:
        model: an mmpretrain classifier.
        inputs: ``(images, 3, h, w)``.
        labels: the class of each map, ``(steps, images)``.

    Raises:
        NoGradient: a class's score doesn't depend on the last stage.
        UserError: the last stage gives no map.
    """
    name, layer = list(default_layers(model).items())[-1]
    found = []
    for step, of_images in enumerate(labels.tolist(), start=1):
        with stopped_after(model, step):
            target = class_target(model, inputs, of_images)
            calls = class_activation_maps(target, {name: layer}, required=True)[name]
        if not calls:
            raise UserError(f"--steps any: layer {name} gives no map of the image to compare the steps by")
        found.append([fit_to_image(each, inputs.shape[2:]) for each in calls[-1]])
    return np.array(found)


def kept_steps(model: nn.Module, inputs: Tensor, scores: np.ndarray, steps: str) -> list[list[int]]:
    """Find the steps of each image, from 0, whose predictions count; the most confident first.

    Args:
        model: an mmpretrain classifier.
        inputs: ``(images, 3, h, w)``.
        scores: probabilities ``(steps, images, classes)``.
        steps: a key of ``PROTOCOLS``.
    """
    if steps == "last":
        return [[len(scores) - 1]] * len(inputs)
    if steps == "confident":
        return [[int(step)] for step in most_confident(scores)]
    maps = step_maps(model, inputs, scores.argmax(2))
    boxes = [[map_box(heat) for heat in maps[:, image]] for image in range(len(inputs))]
    return [unique_steps(scores[:, image].max(1), of_image) for image, of_image in enumerate(boxes)]


class StepwiseMixin(nn.Module):
    """Mixin: a classifier predicts by one of ``PROTOCOLS``.

    With ``'any'`` an image's prediction is that of the kept step that ranks the true class highest: top-k
    accuracies are then those of the paper's protocol.
    """

    steps: str

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Predict data samples for images ``(N, 3, H, W)``, as the classifier does."""
        classifier: Any = super()
        samples: list = []

        def run() -> list:
            samples[:] = classifier.predict(inputs, data_samples)
            return samples

        scores = step_scores(self, run)
        known = scores.double().cpu().numpy()
        kept = kept_steps(self, inputs, known, self.steps)
        for image, (sample, of_image) in enumerate(zip(samples, kept)):
            step = of_image[0]
            if len(of_image) > 1:
                step = best_guess(known[:, image], of_image, int(sample.gt_label))
            score = scores[step, image]
            sample.set_pred_score(score).set_pred_label(score.argmax(0, keepdim=True))
        return samples


def predict_by(model: nn.Module, steps: str, about: str) -> None:
    """Let a built classifier predict by a protocol, in place.

    Args:
        model: an mmpretrain classifier from a config after :func:`choose_steps`.
        steps: a key of ``PROTOCOLS``.
        about: the config's name.

    Raises:
        UserError: see :func:`check_steps`.
    """
    check_steps(model, steps, about)
    if steps != "last":
        stepwise: Any = swap_class(model, StepwiseMixin)
        stepwise.steps = steps
