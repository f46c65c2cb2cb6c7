"""Deformable convolution against a float64 loop over output pixels and kernel taps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.nn.modules.utils import _pair

pytest.importorskip("mmcv")
from mmcv.ops import (
    DeformConv2d,
    DeformConv2dPack,
    ModulatedDeformConv2dPack,
    deform_conv2d,
    modulated_deform_conv2d,
)


def random(*shape, device="cpu", seed=0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device).requires_grad_()


def deform_conv(input, offset, mask, weight, bias, stride, padding, dilation, groups, deform_groups):
    """Sum over taps of weight times mask times the input at the tap's shifted place (tents, 0 outside)."""
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    batch, channels, height, width = input.shape
    outputs, _, kernel_h, kernel_w = weight.shape
    rows, columns = torch.arange(height).to(input), torch.arange(width).to(input)
    out_h, out_w = offset.shape[2:]
    result = []
    for b in range(batch):
        for y in range(out_h):
            for x in range(out_w):
                taps = []
                for g in range(deform_groups):
                    share = channels // deform_groups
                    part = input[b, g * share : (g + 1) * share]
                    for k in range(kernel_h * kernel_w):
                        tap = g * kernel_h * kernel_w + k
                        at_y = (
                            y * stride[0]
                            - padding[0]
                            + k // kernel_w * dilation[0]
                            + offset[b, 2 * tap, y, x]
                        )
                        at_x = (
                            x * stride[1]
                            - padding[1]
                            + k % kernel_w * dilation[1]
                            + offset[b, 2 * tap + 1, y, x]
                        )
                        tent_y = (1 - (rows - at_y).abs()).clamp(min=0)
                        tent_x = (1 - (columns - at_x).abs()).clamp(min=0)
                        value = torch.einsum("chw,h,w->c", part, tent_y, tent_x)
                        taps.append(value if mask is None else value * mask[b, tap, y, x])
                # (C, kernel taps), then one product per group of channels.
                patch = torch.stack(taps).reshape(deform_groups, kernel_h * kernel_w, -1).transpose(1, 2)
                patch = patch.reshape(groups, -1)
                kernel = weight.reshape(groups, outputs // groups, -1)
                value = torch.einsum("gi,goi->go", patch, kernel).flatten()
                result.append(value if bias is None else value + bias)
    return torch.stack(result).reshape(batch, out_h, out_w, outputs).permute(0, 3, 1, 2)


def assert_same(actual, expected, inputs) -> None:
    """Both the values and the gradients of a random projection of them."""
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    direction = random(*expected.shape, device=expected.device, seed=9).detach()
    found = torch.autograd.grad((actual * direction).sum(), inputs)
    wanted = torch.autograd.grad((expected * direction).sum(), inputs)
    for one, other in zip(found, wanted, strict=True):
        assert other.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


# (input's and output's height and width, kernel, stride, padding, dilation, groups, deform groups)
CASES = [
    ((5, 6), (3, 5), (3, 2), 1, 0, 1, 1, 1),
    ((7, 5), (4, 4), (3, 2), (2, 1), (1, 0), (1, 1), 2, 1),
    ((6, 5), (3, 3), (2, 3), 2, 1, (2, 1), 1, 2),
    ((5, 5), (5, 5), (3, 3), 1, 2, 2, 2, 4),
]


def make_case(case, device):
    size, out, kernel, stride, padding, dilation, groups, deform_groups = case
    taps = kernel[0] * kernel[1] * deform_groups
    input = random(2, 4, *size, device=device, seed=1)
    offset = random(2, 2 * taps, *out, device=device, seed=2)
    mask = random(2, taps, *out, device=device, seed=3)
    weight = random(6, 4 // groups, *kernel, device=device, seed=4)
    return input, offset, mask, weight, (stride, padding, dilation, groups, deform_groups)


@pytest.mark.parametrize(("case", "im2col_step"), [*((case, 32) for case in CASES), (CASES[1], 1)])
def test_deform_conv(device, case, im2col_step):
    input, offset, _, weight, geometry = make_case(case, device)
    expected = deform_conv(input, offset, None, weight, None, *geometry)
    actual = deform_conv2d(input, offset, weight, *geometry, False, im2col_step)
    assert_same(actual, expected, (input, offset, weight))


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_modulated_deform_conv(device, case, with_bias):
    input, offset, mask, weight, geometry = make_case(case, device)
    bias = random(6, device=device, seed=5) if with_bias else None
    expected = deform_conv(input, offset, mask, weight, bias, *geometry)
    actual = modulated_deform_conv2d(input, offset, mask, weight, bias, *geometry)
    assert_same(actual, expected, (input, offset, mask, weight) + ((bias,) if with_bias else ()))


def test_gradient_of_the_weight_alone(device):
    input, offset, _, weight, geometry = make_case(CASES[1], device)
    input, offset = input.detach(), offset.detach()
    expected = deform_conv(input, offset, None, weight, None, *geometry)
    assert_same(deform_conv2d(input, offset, weight, *geometry), expected, (weight,))


def test_input_smaller_than_the_kernel(device):
    module = DeformConv2d(2, 3, 3, padding=1).double().to(device)
    input = random(1, 2, 2, 2, device=device, seed=1)
    offset = random(1, 18, 2, 2, device=device, seed=2)
    expected = deform_conv(input, offset, None, module.weight, None, 1, 1, 1, 1, 1)
    # mmcv pads the image with zeros first; no shifted tap of this offset reaches beyond them.
    assert_same(module(input, offset), expected, (input, offset, module.weight))


@pytest.mark.parametrize("pack", [DeformConv2dPack, ModulatedDeformConv2dPack])
def test_packs_start_as_the_plain_convolution(device, pack):
    torch.manual_seed(0)
    module = pack(4, 6, 3, stride=2, padding=1, groups=2).double().to(device)
    input = random(2, 4, 7, 6, device=device)
    expected = F.conv2d(input, module.weight, stride=2, padding=1, groups=2)
    if pack is ModulatedDeformConv2dPack:
        expected = expected * 0.5  # its masks start at sigmoid(0)
    torch.testing.assert_close(module(input), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_offsets(device, dtype, served_only):
    input, offset, mask, weight, geometry = make_case(CASES[1], device)
    halves = [t.detach().to(dtype) for t in (input, offset, mask, weight)]
    exact = [t.double() for t in halves]
    weights = weight.detach().float().requires_grad_()
    output = modulated_deform_conv2d(halves[0].float(), halves[1], halves[2], weights, None, *geometry)
    assert output.dtype == dtype
    expected = deform_conv(*exact, None, *geometry)
    torch.testing.assert_close(output.double(), expected, rtol=0.02, atol=0.02)
    output.sum().backward()
    assert weights.grad.dtype == torch.float32
    assert weights.grad.abs().max() > 0.1
