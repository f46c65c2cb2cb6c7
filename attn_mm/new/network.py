"""A ResNet with attention as the options of a config."""

from __future__ import annotations

from collections.abc import Sequence

from attn_mm.errors import UserError
from attn_mm.networks import list_attention
from attn_mm.new.literals import source
from attn_mm.utils.parser import closest

NONE = "none"
_WIDTHS = {18: 64, 34: 64, 50: 256, 101: 256}
BACKBONES = tuple(f"resnet{depth}" for depth in _WIDTHS)
# What a graft can't do without.
_OPTIONS = {"TDAF": "flows=3, anar={anar}", "TimmLayer": "name={layer}"}


def depth_of(backbone: str) -> int:
    """The depth of a ResNet that is named like ``resnet50``."""
    return int(backbone.removeprefix("resnet"))


def widths_of(backbone: str) -> list[int]:
    """The channels of a ResNet's four stages."""
    width = _WIDTHS[depth_of(backbone)]
    return [width, 2 * width, 4 * width, 8 * width]


def resnet(name: str) -> str:
    """The options of a 2D ResNet with torchvision's weights."""
    weights = f'init_cfg=dict(type="Pretrained", checkpoint="torchvision://{name}")'
    return f'type="ResNet", depth={depth_of(name)}, {weights}'


def attention_named(name: str) -> str:
    """The name of an attention as :func:`attn_mm.networks.list_attention` has it, or ``"none"``.

    A layer of timm follows a colon: ``TimmLayer:coord``.

    Raises:
        UserError: there is none of that name.
    """
    kind, _, layer = name.partition(":")
    known = {one.lower(): one for one in [NONE, *list_attention()]}
    if kind.lower() not in known:
        close = closest(kind, known)
        hint = f"did you mean {known[close]}?" if close else f"name one of {', '.join(known.values())}"
        raise UserError(f"--attention {name}: there is no such attention; {hint}")
    if (kind.lower() == "timmlayer") != bool(layer):
        raise UserError(f"--attention {name}: only TimmLayer needs a layer of timm, as in TimmLayer:coord")
    return f"{known[kind.lower()]}:{layer}" if layer else known[kind.lower()]


def with_attention(backbone: str, names: Sequence[str], anar: int = 3) -> str:
    """Put attention around a backbone.

    Args:
        backbone: the options of its config, ``type="ResNet", depth=18``.
        names: as :func:`attention_named` returns them.
        anar: the steps of TDAF's attention, which is 3 for images and 5 for videos.

    Returns:
        The options of the whole.
    """
    if NONE in names:
        return backbone
    grafts = []
    for name in names:
        kind, _, layer = name.partition(":")
        options = _OPTIONS.get(kind, "").format(anar=anar, layer=source(layer))
        grafts.append(f'dict(type="attn_mm.{kind}"{options and ", "}{options})')
    return f'type="attn_mm.AttnBackbone", backbone=dict({backbone}), grafts=[{", ".join(grafts)}]'
