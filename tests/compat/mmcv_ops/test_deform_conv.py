"""Deformable convolution against its formula in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.nn.modules.utils import _pair

pytest.importorskip("mmcv")
from mmcv.ops import (
    DeformConv2d,
    DeformConv2dPack,
    ModulatedDeformConv2d,
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
    batch, _, height, width = input.shape
    outputs, _, kernel_h, kernel_w = weight.shape
    out_h, out_w = offset.shape[2:]
    taps = kernel_h * kernel_w
    # Indices: b batch, g deformable group, k tap, y and x output, h and w input, c channel of the group.
    shifts = offset.view(batch, deform_groups, taps, 2, out_h, out_w)
    k, y, x = torch.arange(taps).to(input), torch.arange(out_h).to(input), torch.arange(out_w).to(input)
    tap_y = (k // kernel_w * dilation[0] - padding[0])[:, None, None]
    tap_x = (k % kernel_w * dilation[1] - padding[1])[:, None, None]
    at_y = shifts[:, :, :, 0] + tap_y + (y * stride[0])[:, None]
    at_x = shifts[:, :, :, 1] + tap_x + x * stride[1]
    tent_y = (1 - (torch.arange(height).to(input) - at_y.unsqueeze(-1)).abs()).clamp(min=0)
    tent_x = (1 - (torch.arange(width).to(input) - at_x.unsqueeze(-1)).abs()).clamp(min=0)
    parts = input.unflatten(1, (deform_groups, -1))
    patch = torch.einsum("bgchw,bgkyxh,bgkyxw->bgckyx", parts, tent_y, tent_x)
    if mask is not None:
        patch = patch * mask.view(batch, deform_groups, 1, taps, out_h, out_w)
    # Then one product per group of channels.
    patch = patch.reshape(batch, groups, -1, out_h, out_w)
    kernel = weight.reshape(groups, outputs // groups, -1)
    result = torch.einsum("bgiyx,goi->bgoyx", patch, kernel).flatten(1, 2)
    return result if bias is None else result + bias[:, None, None]


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


@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
def test_offsets_of_points_before_the_image_get_no_gradient(device, modulated):
    """At offsets of 0 the padding's taps lie at exactly -1, where a step into the image would read it."""
    input, weight = random(1, 2, 2, 3, device=device), random(2, 2, 2, 2, device=device, seed=1)
    offset = torch.zeros(1, 8, 3, 4, dtype=torch.float64, device=device, requires_grad=True)
    mask = random(1, 4, 3, 4, device=device, seed=2) if modulated else None
    geometry = (1, 1, 1, 1, 1)
    if modulated:
        output = modulated_deform_conv2d(input, offset, mask, weight, None, *geometry)
    else:
        output = deform_conv2d(input, offset, weight, *geometry)
    direction = random(*output.shape, device=device, seed=3).detach()
    found = torch.autograd.grad((output * direction).sum(), offset)[0]

    step = 1e-6
    with torch.no_grad():
        steps = offset + step * torch.eye(offset.numel(), device=device).view(-1, *offset.shape[1:])
        many = [t if t is None else t.expand(len(steps), *t.shape[1:]) for t in (input, mask)]
        stepped = deform_conv(many[0], steps, many[1], weight, None, *geometry)
        wanted = (((stepped - output) * direction).sum((1, 2, 3)) / step).view_as(offset)
    # (kernel's height and width, y and x, output's height and width)
    before = torch.zeros(2, 2, 2, 3, 4, dtype=torch.bool)
    before[0, :, :, 0] = True
    before[:, 0, :, :, 0] = True
    before = before.view(offset.shape).to(device)
    assert wanted[before].abs().max() > 1e-3
    torch.testing.assert_close(found, wanted.masked_fill(before, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_larger_offsets_are_read_as_flat_memory(device, layout):
    """mmcv's kernel finds the number of a tap in an image's memory by the output's size."""
    input, offset, mask, weight, geometry = make_case(CASES[2], device)
    height, width = CASES[2][1]
    large = random(2, offset.shape[1], 2 * height, 2 * width + 1, device=device, seed=7)
    large_mask = random(2, mask.shape[1], 2 * height, 2 * width + 1, device=device, seed=8)
    read = [
        t.flatten(1)[:, : small[0].numel()].view_as(small)
        for t, small in ((large, offset), (large_mask, mask))
    ]
    expected = deform_conv(input, *read, weight, None, *geometry)
    offsets, masks = (t.contiguous(memory_format=layout) for t in (large, large_mask))
    actual = modulated_deform_conv2d(input, offsets, masks, weight, None, *geometry)
    assert_same(actual, expected, (input, large, large_mask, weight))


def test_too_few_offsets_are_refused(device, served_only):
    input, offset, mask, weight, geometry = make_case(CASES[0], device)
    with pytest.raises(
        ValueError, match=r"offsets of shape \(12, 2, 5\) are too few for an output of \(3, 5\)"
    ):
        modulated_deform_conv2d(input, offset[:, :, :2], mask, weight, None, *geometry)


def test_dyhead_reads_the_offsets_of_a_finer_level_as_flat_memory(device):
    necks = pytest.importorskip("mmdet.models.necks")
    torch.manual_seed(0)
    head = necks.DyHead(2, 16, num_blocks=1, zero_init_offset=False).double().to(device)
    calls = []
    for module in head.modules():
        if isinstance(module, ModulatedDeformConv2d):
            module.register_forward_hook(lambda *call: calls.append(call))
    levels = [random(2, 2, side, side, device=device, seed=side) for side in (6, 3)]
    outputs = head(levels)
    larger = 0
    for conv, (input, offset, mask), output in calls:
        shapes = [(channels, *output.shape[2:]) for channels in (18, 9)]
        offset, mask = (
            t.flatten(1)[:, : torch.Size(shape).numel()].reshape(-1, *shape)
            for t, shape in zip((offset, mask), shapes, strict=True)
        )
        larger += offset.shape != calls[0][1][1].shape
        expected = deform_conv(
            input, offset, mask, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, 1, 1
        )
        torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
    assert len(calls) == 4
    assert larger
    sum(output.square().sum() for output in outputs).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in head.parameters())
