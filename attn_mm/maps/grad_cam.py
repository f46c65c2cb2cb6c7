"""Compute class activation maps from gradients, one for each call of a layer.

Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization,
ICCV 2017 (https://arxiv.org/abs/1610.02391), section 3. With a layer's output A, K channels over Z
positions, and a score y,

    alpha_k = 1/Z sum_ij dy / dA_k,ij    (eq. 1)
    map_ij  = ReLU(sum_k alpha_k A_k,ij) (eq. 2)

pytorch-grad-cam computes the maps; this module collects outputs and gradients itself. Networks with attention
call a layer several times per forward pass, and some calls don't reach the score. The library would then
match gradients to the wrong calls, because it assumes that they arrive in the reverse order of the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from attn_mm.errors import UserError

METHODS = ("GradCAM", "GradCAMPlusPlus", "HiResCAM", "LayerCAM")
"""The methods of pytorch-grad-cam that need only one forward and one backward pass, in 2D and 3D."""


class NoGradient(UserError):
    """The score of an image doesn't depend on a layer's output, so that there is no map.

    Attributes:
        image: index of the first such image in the batch.
    """

    def __init__(self, layer: str, image: int) -> None:
        super().__init__(f"image {image}: its score doesn't depend on the last output of layer {layer}")
        self.image = image


def class_activation_maps(
    score: Callable[[], Tensor],
    layers: Mapping[str, nn.Module],
    method: str = "GradCAM",
    required: bool = False,
) -> dict[str, list[np.ndarray]]:
    """Compute what contributes to a score in each layer's output.

    The network must be in evaluation mode. If the score is a sum of one score per image, each map of a batch
    then depends only on its own image. The ``.grad`` of parameters doesn't change.

    Args:
        score: runs the network once and returns a scalar.
        layers: the layers, by any name; their outputs are ``(N, C, h, w)`` or ``(N, C, t, h, w)``.
        method: one of ``METHODS``.
        required: whether the score of each image must depend on each layer's last call.

    Returns:
        For each layer, a list with one map per call in order, ``(N, h, w)`` or ``(N, t, h, w)``. Maps aren't
        negative; the map of a call that doesn't influence the score is 0. The list is empty if the layer
        wasn't called or its output isn't a map.

    Raises:
        NoGradient: with ``required``, the score of an image doesn't depend on a layer's last call.
        ValueError: the method is unknown.
        ImportError: pytorch-grad-cam (of the extra ``explore``) is not installed.
    """
    to_map = _mapper(method)
    with torch.enable_grad(), _recorded(layers) as outputs:
        value = score()
    calls = [(name, output) for name, outs in outputs.items() for output in outs]
    gradients = _gradients(value, [output for _, output in calls])
    if required:
        _check_gradients({name: gradient for (name, _), gradient in zip(calls, gradients, strict=True)})
    maps: dict[str, list[np.ndarray]] = {name: [] for name in layers}
    for (name, output), gradient in zip(calls, gradients, strict=True):
        maps[name].append(np.maximum(to_map(_array(output), _array(gradient)), 0))
    return maps


def _mapper(method: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    import pytorch_grad_cam

    # It takes a network and its layers, of which it reads no more than the device.
    library = getattr(pytorch_grad_cam, method)(nn.Linear(1, 1), [])
    return lambda output, gradient: library.get_cam_image(None, None, None, output, gradient, False)


@contextmanager
def _recorded(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, list[Tensor]]]:
    """Record the layers' outputs, call by call, in this context."""
    outputs: dict[str, list[Tensor]] = {name: [] for name in layers}

    def record_in(kept: list[Tensor]):
        def record(module: nn.Module, inputs: tuple, output):
            # Some blocks give their map alone in a tuple, and a pooled one is no map.
            tensor = output[0] if isinstance(output, tuple) and len(output) == 1 else output
            if not isinstance(tensor, Tensor) or tensor.dim() not in (4, 5):
                return None
            if not tensor.requires_grad:
                tensor = tensor.detach().requires_grad_()
            kept.append(tensor)
            # What follows may work in place, on the copy.
            copied = tensor.clone()
            return (copied,) if isinstance(output, tuple) else copied

        return record

    handles = [layer.register_forward_hook(record_in(outputs[name])) for name, layer in layers.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _gradients(value: Tensor, outputs: list[Tensor]) -> list[Tensor]:
    if not outputs:
        return []
    if not value.requires_grad:
        return [torch.zeros_like(output) for output in outputs]
    found = torch.autograd.grad(value, outputs, allow_unused=True)
    return [torch.zeros_like(o) if g is None else g for o, g in zip(outputs, found, strict=True)]


def _check_gradients(last: Mapping[str, Tensor]) -> None:
    for name, gradient in last.items():
        without = ~gradient.flatten(1).any(1)
        if without.any():
            raise NoGradient(name, int(without.nonzero()[0]))


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()
