"""ANAR is table 1 and figure 3a, with the parameter counts that the paper publishes."""

from __future__ import annotations

import pytest
import torch
from layers import reference
from torch import nn

from attn_mm.layers import ANAR, MFBN, convert_multi_flow, flow

TOLERANCE = dict(rtol=1e-10, atol=1e-10)
RESNET_STAGES = (256, 512, 1024)


def parameters(*modules):
    return sum(p.numel() for m in modules for p in m.parameters())


def assert_equals_the_reference(size, training=True, channels=5, num_flows=2, **options):
    """Mask, running statistics and all gradients of both flows are the reference's."""
    anar = convert_multi_flow(ANAR(channels, width=64, **options), num_flows).double().train(training)
    for module in anar.modules():
        if isinstance(module, MFBN):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    params, norms = reference.leaves(anar), {}
    for name, module in anar.named_modules():
        if isinstance(module, MFBN):
            gamma, alpha = params[f"{name}.weight"], params[f"{name}.bias"]
            norms[name] = reference.MultiFlowNorm(gamma, alpha, num_flows, training=training)
            norms[name].mean = list(module.running_mean.clone())
            norms[name].var = list(module.running_var.clone())
    depth, depthwise = options.get("depth", 3), options.get("depthwise", False)
    for n in (1, 2):
        ours = torch.randn(2, channels, *size, dtype=torch.float64).requires_grad_()
        theirs = ours.detach().clone().requires_grad_()
        with flow(n - 1):
            mask = anar(ours)
        expected = reference.anar(theirs, n, depth, params, norms, depthwise)
        assert mask.shape == (2, 1, *[2 * s for s in size])
        torch.testing.assert_close(mask, expected, **TOLERANCE)
        weights = torch.randn_like(mask)
        (mask * weights).sum().backward()
        (expected * weights).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, **TOLERANCE)
    for name, p in anar.named_parameters():
        torch.testing.assert_close(p.grad, params[name].grad, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")
    for name, norm in norms.items():
        module = anar.get_submodule(name)
        torch.testing.assert_close(module.running_mean, torch.stack(norm.mean), **TOLERANCE)
        torch.testing.assert_close(module.running_var, torch.stack(norm.var), **TOLERANCE)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("size", [(8, 8), (7, 10), (5, 3)], ids=str)
@pytest.mark.parametrize("depth", [2, 3, 5, 7])
def test_equals_the_reference(depth, size, training):
    assert_equals_the_reference(size, training, depth=depth)


@pytest.mark.parametrize("size", [(4, 6, 4), (3, 5, 2)], ids=str)
@pytest.mark.parametrize("depth", [2, 3, 5, 7])
def test_equals_the_reference_in_3d(depth, size):
    assert_equals_the_reference(size, depth=depth, dims=3)


@pytest.mark.parametrize("dims, depth", [(2, 3), (2, 5), (2, 7), (3, 5)])
def test_depthwise_equals_the_reference(dims, depth):
    assert_equals_the_reference((5, 6, 3)[:dims], depth=depth, dims=dims, depthwise=True)


@pytest.mark.parametrize(
    "options", [dict(depth=5), dict(depth=7, dims=3), dict(depth=5, depthwise=True)], ids=str
)
def test_wide_skip_convolutions_equal_the_reference(options):
    assert_equals_the_reference((5, 6, 3)[: options.get("dims", 2)], skip_kernel=3, **options)


@pytest.mark.parametrize("depth", [2, 3, 5, 7])
def test_maps_of_one_pixel_have_a_mask_of_two(depth):
    mask = ANAR(4, depth, width=64).eval()(torch.randn(1, 4, 1, 1))
    assert mask.shape == (1, 1, 2, 2) and mask.isfinite().all()


@pytest.mark.parametrize(
    "options, published",
    [
        (dict(depth=3), 164_371),
        (dict(depth=5), 587_411),
        (dict(depth=7), 754_067),
        (dict(depth=5, dims=3), 1_398_419),
    ],
    ids=str,
)
def test_parameters_are_the_published_ones(options, published):
    assert parameters(*[ANAR(c, **options) for c in RESNET_STAGES]) == published


def test_depth_2_is_depth_3_without_its_deconvolution():
    three, two = ANAR(256, 3), ANAR(256, 2)
    deconv_and_norm = 64 * 16 * 16 + 2 * 16
    narrower_mask = 64 - 16
    assert parameters(three) - deconv_and_norm + narrower_mask == parameters(two)


def shapes(anar):
    return [tuple(m.weight.shape) for m in anar.modules() if hasattr(m, "weight") and m.weight.dim() > 1]


@pytest.mark.parametrize("c", [256, 1024])
def test_width_stage_is_table_1_read_literally(c):
    assert shapes(ANAR(c, 3, "stage")) == [(c // 8, c, 1, 1), (c // 8, c // 32, 4, 4), (1, c // 32, 1, 1)]
    assert sorted(shapes(ANAR(c, 5, "stage"))) == sorted(
        [
            (c // 4, c, 1, 1),
            (c // 8, c // 4, 3, 3),
            (c // 8, c // 16, 4, 4),
            (c // 16, c // 32, 4, 4),
            (1, c // 32, 1, 1),
            (c // 16, c // 4, 1, 1),  # the skip connection
        ]
    )
    assert sorted(shapes(ANAR(c, 7, "stage"))) == sorted(
        [
            (c // 4, c, 1, 1),
            (c // 8, c // 4, 3, 3),
            (c // 8, c // 8, 3, 3),
            (c // 8, c // 16, 4, 4),
            (c // 16, c // 16, 4, 4),
            (c // 16, c // 32, 4, 4),
            (1, c // 32, 1, 1),
            (c // 16, c // 8, 1, 1),
            (c // 16, c // 4, 1, 1),
        ]
    )


def test_a_number_as_width_stands_for_c_behind_the_first_conv():
    assert shapes(ANAR(64, 3, 256)) == [(32, 64, 1, 1), (32, 8, 4, 4), (1, 8, 1, 1)]


def test_only_the_mask_has_a_bias():
    anar = ANAR(64, 7)
    convs = [m for m in anar.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert [m for m in convs if m.bias is not None] == [anar.mask]
    assert len(convs) == 9


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("depth", [2, 3, 5, 7])
def test_it_starts_near_one_half_and_with_kaiming_convolutions(depth, dims, depthwise):
    anar = ANAR(64, depth, 512, dims, depthwise)
    for p in anar.parameters():
        nn.init.constant_(p, 7.0)
    anar.reset_parameters()
    mask = anar(torch.randn(2, 64, *[8, 6, 5][:dims]))
    assert (mask - 0.5).abs().max() < 0.25
    assert (mask - 0.5).abs().mean() < 0.05
    assert not anar.mask.bias.any()
    for module in anar.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.weight.eq(1).all() and not module.bias.any()
        elif hasattr(module, "kernel_size") and module is not anar.mask and module.weight.numel() > 2000:
            deconv = module.transposed
            # Fan-out: what one input pixel feeds; a deconvolution's weight has its inputs first.
            fan_out = module.weight[0 if deconv else slice(None), slice(None) if deconv else 0].numel()
            std = (2 / fan_out) ** 0.5
            assert abs(module.weight.std().item() / std - 1) < 0.1, module


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(depth=4), r"ANAR depth must be one of \[2, 3, 5, 7\], got 4"),
        (dict(depth="3"), "ANAR depth must be one of .*got '3'"),
        (dict(dims=1), "dims must be 2 or 3, got 1"),
        (dict(width="c"), "ANAR width must be 'stage' or a number of at least 32, got 'c'"),
        (dict(width=31), "ANAR width must be 'stage' or a number of at least 32, got 31"),
        (dict(width=64.0), "ANAR width must be .*got 64.0"),
        (dict(width="stage"), "ANAR width must be .*got 16"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ANAR(16, **options)
