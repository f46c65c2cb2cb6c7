"""Class activation maps by gradients, one for each call of a layer.

Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization,
ICCV 2017 (https://arxiv.org/abs/1610.02391), section 3. With a layer's output A, K channels over Z
positions, and a score y,

    alpha_k = 1/Z sum_ij dy / dA_k,ij    (eq. 1)
    map_ij  = ReLU(sum_k alpha_k A_k,ij) (eq. 2)

The maps are pytorch-grad-cam's. Outputs and gradients are collected here, because networks with attention
call a layer several times in one forward pass, and some calls don't reach the score: the library takes
gradients in the order in which they arrive as those of the calls in reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

METHODS = ("GradCAM", "GradCAMPlusPlus", "HiResCAM", "LayerCAM")
"""The methods of pytorch-grad-cam that need one forward and one backward pass, in 2D and 3D."""


def class_activation_maps(
    score: Callable[[], Tensor], layers: Mapping[str, nn.Module], method: str = "GradCAM"
) -> dict[str, list[np.ndarray]]:
    """What in each layer's output speaks for a score.

    The network must be in evaluation mode: the maps of a batch are then each image's own, if the score is
    the sum of a score of each. No parameter's ``.grad`` changes.

    Args:
        score: runs the network once and gives a scalar.
        layers: the layers, by any name; their outputs are ``(N, C, h, w)`` or ``(N, C, t, h, w)``.
        method: one of ``METHODS``.

    Returns:
        for each layer a map ``(N, h, w)`` or ``(N, t, h, w)`` for each of its calls, in their order; none is
        negative, and one of a call that the score doesn't depend on is 0. The list is empty where the layer
        was not called, or did not give a map.

    Raises:
        ValueError: an unknown method.
        ImportError: pytorch-grad-cam (of the extra ``explore``) is not installed.
    """
    to_map = _mapper(method)
    with torch.enable_grad(), _recorded(layers) as outputs:
        value = score()
    calls = [(name, output) for name, outs in outputs.items() for output in outs]
    gradients = _gradients(value, [output for _, output in calls])
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
    """The layers' outputs, call by call, while the context lasts."""
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


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()
