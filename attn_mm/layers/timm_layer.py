"""Any attention layer of timm, by timm's own name for it.

Wightman, PyTorch Image Models (https://github.com/huggingface/pytorch-image-models),
``timm/layers/create_attn.py``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from attn_mm.layers.recording import Attention, AttentionKind


def timm_layers() -> list[str]:
    """The names that timm gives its attention layers, read from timm itself.

    Raises:
        ValueError: timm is not installed.
    """
    return re.findall(r"attn_type == '(\w+)'", inspect.getsource(_create_attn().get_attn))


def _create_attn() -> Any:
    try:
        from timm.layers import create_attn
    except ImportError as error:
        raise ValueError(f"TimmLayer requires timm: pip install 'attn-mm[timm]' ({error})") from error
    return inspect.getmodule(create_attn)


class TimmLayer(nn.Module):
    """An attention layer of timm for maps ``(N, C, H, W)``.

    Args:
        in_channels: channels of the input.
        name: name of the layer, such as ``'coord'`` (Hou et al., Coordinate Attention, CVPR 2021,
            https://arxiv.org/abs/2103.02907); see :func:`timm_layers`.
        options: options of timm's class.

    Raises:
        ValueError: timm is not installed, has no such layer, or can't build it from these options.
    """

    def __init__(self, in_channels: int, name: str, **options) -> None:
        super().__init__()
        known = timm_layers()
        if name not in known:
            raise ValueError(f"timm has no attention layer {name!r}: name one of {', '.join(known)}")
        build = _create_attn().get_attn(name)
        try:
            self.layer = build(in_channels, **options)
        # What a class raises on options that it can't use can be anything.
        except Exception as error:
            cls = getattr(build, "func", build)
            accepts = ", ".join(list(inspect.signature(cls).parameters)[1:])
            reason = f"{type(error).__name__} {error}".strip()[:80]
            raise ValueError(
                f"timm can't build {name!r} for {in_channels} channels: {reason}; its options: {accepts}"
            ) from error
        self.name = name

    def extra_repr(self) -> str:
        return repr(self.name)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            raise ValueError(f"timm's layer {self.name!r} is for maps (N, C, H, W), got {tuple(x.shape)}")
        try:
            return self.layer(x)
        except AssertionError as error:
            size = "x".join(map(str, x.shape[2:]))
            raise ValueError(f"timm's layer {self.name!r} can't take maps of {size}: {error}") from error

    def recorded(self, run, x: Tensor) -> tuple[Tensor, list[Attention]]:
        """See :mod:`attn_mm.layers.recording`: what the layer's own gates give, where they are modules."""
        gates: list[Tensor] = []
        with _collecting(self.layer, gates):
            y = run(x)
        return y, [
            Attention(
                _kind(self.name, gate), _over_positions(gate), {"gate": number} if len(gates) > 1 else {}
            )
            for number, gate in enumerate(gates, 1)
        ]


@contextmanager
def _collecting(layer: nn.Module, gates: list[Tensor]) -> Iterator[None]:
    """In this context, collect the output of each sigmoid in ``layer``."""
    with ExitStack() as stack:
        for module in layer.modules():
            if isinstance(module, (nn.Sigmoid, nn.Hardsigmoid)) or type(module).__name__ in (
                "Sigmoid",
                "HardSigmoid",
            ):
                hook = module.register_forward_hook(lambda _, args, output: gates.append(output))
                stack.callback(hook.remove)
        yield


def _is_over_channels(gate: Tensor) -> bool:
    return gate.dim() == 4 and gate.shape[2:] == (1, 1)


def _over_positions(gate: Tensor) -> Tensor:
    """``gate`` itself over channels; otherwise its mean over the channels, ``(N, 1, h, w)``."""
    return gate if _is_over_channels(gate) else gate.mean(1, keepdim=True)


def _kind(name: str, gate: Tensor) -> AttentionKind:
    return AttentionKind(
        f"timm {name}: {'channels' if _is_over_channels(gate) else 'positions'}",
        "Wightman, PyTorch Image Models, timm.layers",
        "What the layer multiplies by: near 1 it passes, near 0 it is muted.",
        over="channels" if _is_over_channels(gate) else "positions",
    )
