"""The frameworks that attn_mm works with: prediction, drawing, Grad-CAM, ``--demo`` and one plain forward.

Each framework is a folder here with a subclass of :class:`attn_mm.frameworks.framework.Framework`. The
``default_scope`` of a config names its framework, whose folder is imported when the config is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mmengine.config import Config

from attn_mm.errors import UserError

if TYPE_CHECKING:
    from attn_mm.frameworks.framework import ImageFramework, VideoFramework

_LOCATIONS = {
    "mmdet": "attn_mm.frameworks.mmdet:MMDet",
    "mmpose": "attn_mm.frameworks.mmpose:MMPose",
    "mmaction": "attn_mm.frameworks.mmaction:MMAction",
    "mmpretrain": "attn_mm.frameworks.mmpretrain:MMPretrain",
    "mmseg": "attn_mm.frameworks.mmseg:MMSeg",
}


def register(name: str, location: str) -> None:
    """Add a framework.

    Args:
        name: ``default_scope`` of its configs.
        location: ``"module:class"`` of its :class:`~attn_mm.frameworks.framework.Framework`.
    """
    _LOCATIONS[name] = location


def known_frameworks() -> tuple[str, ...]:
    """The names of all registered frameworks."""
    return tuple(_LOCATIONS)


def get_framework(name: str) -> ImageFramework | VideoFramework:
    """The registered framework of that name.

    Raises:
        KeyError: there is none.
    """
    module, _, kind = _LOCATIONS[name].partition(":")
    return getattr(import_module(module), kind)()


def framework_of(cfg: Config, user: str = "attn_mm") -> ImageFramework | VideoFramework:
    """The framework that a config is for.

    Args:
        cfg: the config.
        user: what the error message calls the command, such as ``"attn-mm infer"``.

    Raises:
        UserError: no framework of that name is registered.
    """
    name = cfg.get("default_scope")
    if name not in _LOCATIONS:
        raise UserError(f"{cfg.filename} is for {name}; {user} knows the configs of {', '.join(_LOCATIONS)}")
    return get_framework(name)
