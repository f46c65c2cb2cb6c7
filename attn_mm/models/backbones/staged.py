"""Base classes of this package's staged backbones: a stem, stages, and mmpretrain's usual options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

BN = dict(type="BN", requires_grad=True)
KAIMING: list[dict] = [
    dict(type="Kaiming", layer=["Conv2d"]),
    dict(type="Constant", val=1, layer=["_BatchNorm", "GroupNorm"]),
]


def conv_layer(conv_cfg: dict | None, *args, **kwargs) -> nn.Module:
    """Call mmcv's ``build_conv_layer``; mmcv is imported only when a network is built."""
    from mmcv.cnn import build_conv_layer

    return build_conv_layer(conv_cfg, *args, **kwargs)


def norm_layer(norm_cfg: dict, channels: int, postfix: int | str = "") -> tuple[str, nn.Module]:
    """Call mmcv's ``build_norm_layer``; returns the norm's name and the norm."""
    from mmcv.cnn import build_norm_layer

    return build_norm_layer(norm_cfg, channels, postfix=postfix)


class ConvNormBlock(BaseModule):
    """Base of blocks with numbered norms: ``norm1`` is the module ``bn1``, or ``gn1`` for a group norm.

    Args:
        with_cp: whether to drop the block's inner maps and recompute them in the backward pass.
    """

    def __init__(self, with_cp: bool = False) -> None:
        super().__init__()
        self.with_cp = with_cp

    def add_norm(self, norm_cfg: dict, channels: int, number: int) -> None:
        name, norm = norm_layer(norm_cfg, channels, postfix=number)
        setattr(self, f"norm{number}_name", name)
        self.add_module(name, norm)

    @property
    def norm1(self) -> nn.Module:
        return getattr(self, self.norm1_name)

    @property
    def norm2(self) -> nn.Module:
        return getattr(self, self.norm2_name)

    def run(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Call ``function(x)``, checkpointed if ``with_cp`` is set."""
        if self.with_cp and x.requires_grad:
            return checkpoint(function, x, use_reentrant=False)
        return function(x)


class StagedBackbone(BaseModule):
    """Base of backbones with a stem ``conv1``, ``norm1``, ``relu`` and stages ``layer1``, ``layer2``, ...

    ``res_layers`` lists the stages' names. A subclass adds the stem and the stages and calls
    :meth:`check_stages` last.

    Args:
        out_indices: the stages, from 0, whose maps the forward pass returns.
        frozen_stages: 0 freezes the stem, n the stem and the first n stages, -1 nothing.
        norm_eval: whether batch norms keep their statistics in training.
        init_cfg: as in mmengine; Kaiming by default.
    """

    def __init__(self, out_indices: Sequence[int], frozen_stages: int, norm_eval: bool, init_cfg) -> None:
        super().__init__(init_cfg)
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.res_layers: list[str] = []

    def add_stem(self, in_channels: int, channels: int, stride: int, conv_cfg, norm_cfg) -> None:
        self.conv1 = conv_layer(
            conv_cfg, in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False
        )
        self.norm1_name, norm = norm_layer(norm_cfg, channels, postfix=1)
        self.add_module(self.norm1_name, norm)
        self.relu = nn.ReLU(inplace=True)

    def add_stage(self, blocks: Iterable[nn.Module]) -> None:
        name = f"layer{len(self.res_layers) + 1}"
        self.add_module(name, nn.Sequential(*blocks))
        self.res_layers.append(name)

    def check_stages(self) -> None:
        """Check ``out_indices`` and ``frozen_stages``, and freeze the frozen stages.

        Raises:
            ValueError: ``out_indices`` or ``frozen_stages`` name stages that don't exist.
        """
        count = len(self.res_layers)
        if isinstance(self.out_indices, int) or not set(self.out_indices) <= set(range(count)):
            raise ValueError(f"out_indices must be a sequence of 0..{count - 1}, got {self.out_indices!r}")
        if self.frozen_stages not in range(-1, count + 1):
            raise ValueError(f"frozen_stages must be in -1..{count}, got {self.frozen_stages!r}")
        self._freeze_stages()

    @property
    def norm1(self) -> nn.Module:
        return getattr(self, self.norm1_name)

    def stem(self, x: Tensor) -> Tensor:
        """Compute the first stage's input from images ``x`` ``(N, C, H, W)``."""
        return self.relu(self.norm1(self.conv1(x)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of the stages in ``out_indices`` from images ``x`` ``(N, C, H, W)``."""
        x = self.stem(x)
        outputs = []
        for index, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = self.res_layers[: self.frozen_stages]
        for module in (self.conv1, self.norm1, *(getattr(self, name) for name in frozen)):
            module.eval().requires_grad_(False)

    def train(self, mode: bool = True):
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
