"""The weights of a 2D network, inflated for the 3D network that is built like it.

Carreira & Zisserman, Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset,
CVPR 2017 (https://arxiv.org/abs/1705.07750), section 2.4.1: a video of one repeated image must
have the features of that image. Each output frame of a convolution sees as many equal
frames as the kernel is long, so the kernel is repeated along time and divided by its length.

A transposed convolution, as in an ANAR, needs another divisor. With kernel length K, stride s and
padding p along time its output frame o is

    y[o] = sum of w[k] x[(o + p - k) / s]    over the k in 0..K-1 that leave o + p - k divisible by s

which are K/s of the K taps: an ANAR's deconvolutions (K = 4, s = 2) use taps 1 and 3 for one
output frame and taps 0 and 2 for the next. For equal frames x they give x * K/s * w, so the
kernel is repeated along time and divided by K/s. Dividing by K would halve the output.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

from attn_mm.graft.state import torchvision_name

CONVS = (nn.Conv3d, nn.ConvTranspose3d)


def frames_seen(conv: nn.Conv3d | nn.ConvTranspose3d) -> int:
    """Number of input frames that each output frame of ``conv`` sums, away from the first and last.

    Raises:
        ValueError: the output frames of a transposed convolution see different numbers of them.
    """
    length, stride = conv.kernel_size[0], conv.stride[0]
    if not conv.transposed:
        return length
    if length % stride:
        raise ValueError(
            f"a transposed kernel of length {length} and stride {stride} weights frames unequally"
        )
    return length // stride


def inflate(weight: Tensor, conv: nn.Conv3d | nn.ConvTranspose3d) -> Tensor:
    """The 2D kernel ``(a, b, h, w)`` as a kernel ``(a, b, t, h, w)`` of ``conv``."""
    length = conv.kernel_size[0]
    return weight.unsqueeze(2).repeat_interleave(length, 2) / frames_seen(conv)


def inflate_state(net: nn.Module, state: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Convert the ``state`` of a 2D network to the names and shapes of the 3D network ``net``.

    Tensors that ``net`` does not have are kept unchanged. A load of the result reports how many keys were
    inflated, see :class:`attn_mm.graft.state.LoadReport`.

    Args:
        net: a 3D network.
        state: tensors by the names that mmaction or that torchvision, mmdet, mmpose and mmpretrain
            give them in 2D.

    Raises:
        ValueError: a tensor does not fit, inflated or not, the one of its name; or no convolution
            could be inflated.
    """
    own = net.state_dict()
    convs = {f"{name}.weight": module for name, module in net.named_modules() if isinstance(module, CONVS)}
    names = {name: key for key in own for name in (torchvision_name(key), key)}
    result = OrderedDict()
    inflated = 0
    for name, value in state.items():
        key = names.get(name, name)
        if key in convs and value.dim() == 4:
            value = inflate(value, convs[key])
            inflated += 1
        # A norm's statistics without flows go to every flow.
        if key in own and value.shape not in (own[key].shape, own[key].shape[1:]):
            raise ValueError(
                f"{name} {tuple(state[name].shape)} doesn't inflate into {key} {tuple(own[key].shape)}"
            )
        result[key] = value
    if not inflated:
        raise ValueError(f"it has no 2D convolution that fits {type(net).__name__}")
    result._metadata = {"": dict(inflated=inflated)}  # type: ignore[attr-defined]
    return result
