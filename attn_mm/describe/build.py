"""Build a config's model, on the meta device if possible, and run it once."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from attn_mm.describe.counting import weightless
from attn_mm.errors import UserError
from attn_mm.frameworks.forwards import forward_arguments
from attn_mm.utils.config import reason
from attn_mm.utils.flags import positive

T = TypeVar("T")


_SHAPE_ERRORS = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)
"""The exceptions that layers raise for inputs of an unsuitable shape."""


def add_shape_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--shape N ...``, which overrides :func:`attn_mm.frameworks.forwards.input_shape`."""
    parser.add_argument(
        "--shape",
        nargs="+",
        type=positive,
        metavar="N",
        help="input shape: 3 224 224 for an image, 3 16 112 112 for a clip of a 3D network, "
        "8 3 224 224 for the frames of a 2D network (default: from the config's pipeline)",
    )


def build(cfg: Config, device: str) -> nn.Module:
    """Build the model of ``cfg`` on the meta device, without memory for its weights.

    Raises:
        UserError: the model can't be built.
    """
    return build_part(cfg.model, scope_of(cfg), device, f"the model of {cfg.filename}")


def build_part(config: dict, scope: str, device: str, name: str) -> nn.Module:
    """Build a part of a model from its ``config``, or all of it, as :func:`build` does.

    Args:
        config: of the part.
        scope: the framework whose names it uses.
        device: ``"meta"``, or one with memory for the weights.
        name: of the part, for messages.

    Raises:
        UserError: the part can't be built.
    """
    # Some constructors change their config.
    config = copy.deepcopy(config)
    try:
        with DefaultScope.overwrite_default_scope(scope):
            if device != "meta":
                return MODELS.build(config)
            with weightless():
                model = MODELS.build(config)
            return model.to("meta")
    except Exception as error:
        # A constructor raises whatever it likes where the config's options don't fit it.
        why = str(error) if isinstance(error, UserError) else reason(error)
        raise UserError(f"{name} can't be built: {why}") from error


def scope_of(cfg: Config) -> str:
    """The framework whose names ``cfg`` uses."""
    return cfg.get("default_scope") or "mmengine"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def look_at(cfg: Config, shape: Sequence[int], look: Callable[..., T]) -> T:
    """Return ``look(model, x, **kwargs)``, which runs the model of ``cfg`` on an input ``x`` of that shape.

    Raises:
        UserError: the model can't be built, or does not run on such an input.
    """

    def run(model: nn.Module, device: str) -> T:
        x, kwargs = forward_arguments(model, scope_of(cfg), shape, device)
        return look(model, x, **kwargs)

    model = build(cfg, "meta")
    try:
        try:
            return run(model, "meta")
        except Exception as error:
            # What depends on values, such as the boxes that a second stage looks at, needs real ones.
            if "meta" not in str(error).lower():
                raise
        return run(build(cfg, "cpu"), "cpu")
    except _SHAPE_ERRORS as error:
        why = _first_line(str(error)) or type(error).__name__
        size = " x ".join(map(str, shape))
        raise UserError(f"{cfg.filename} does not run on an input of {size} (--shape): {why}") from error
