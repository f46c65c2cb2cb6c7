"""The pose head is the recursion over HeatmapHead's deconvolutions, and stays a good HeatmapHead."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from grafted import backward, in_mode, shake
from layers import reference
from mmengine.model.utils import convert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import load_checkpoint
from thinned import thinned
from torch import nn

from attn_mm.errors import ConfigError
from attn_mm.layers import MFBN

pytest.importorskip("mmpose.models")

TOLERANCE = dict(rtol=1e-9, atol=1e-9)
WIDTHS = (4, 6, 5)
SMALL = dict(
    in_channels=6,
    out_channels=17,
    deconv_out_channels=WIDTHS,
    deconv_kernel_sizes=(4, 4, 4),
    loss=dict(type="KeypointMSELoss", use_target_weight=True),
    decoder=dict(type="MSRAHeatmap", input_size=(192, 256), heatmap_size=(48, 64), sigma=2),
)
BACKBONE = dict(type="mmpose.ResNet", depth=18, base_channels=8, stem_channels=8)
INTERMEDIATE = dict(conv_out_channels=(7,), conv_kernel_sizes=(3,))
READINGS = pytest.mark.parametrize("flow_inputs", ["features", "pyramid"])


def build(kind="attn_mm.TDAFHeatmapHead", **options):
    if kind == "attn_mm.TDAFHeatmapHead":
        options = dict(width=64) | options
    with DefaultScope.overwrite_default_scope("mmpose"):
        return MODELS.build(dict(type=kind, **{**SMALL, **options}))


def build_backbone(flows=3, **options):
    graft = dict(type="attn_mm.FlowPyramid", flows=flows)
    return MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=dict(BACKBONE, **options), grafts=[graft]))


def with_half_masks(head):
    """Masks of exactly 1/2, which eta = 1/2 makes factors of 1."""
    for anar in head.deconv_layers.anars:
        nn.init.zeros_(anar.mask.weight)
        nn.init.zeros_(anar.mask.bias)
    return head


def from_plain(plain, **options):
    """The head with the weights and statistics of a plain one."""
    head = build(**options)
    assert not head.load_state_dict(plain.state_dict(), strict=False).unexpected_keys
    return head


def features(*size, channels=6, dtype=torch.float32):
    return (torch.randn(2, channels, *(size or (4, 3)), dtype=dtype),)


def maps_for(flow_inputs, dtype=torch.float32):
    if flow_inputs == "features":
        return features(9, 7, dtype=dtype)
    return tuple(torch.randn(2, 6, h, w, dtype=dtype) for h, w in [(3, 2), (5, 4), (9, 7)])


class TestIsTheRecursionOverTheDeconvolutions:
    """Forward, masks, statistics and all gradients against the formulas."""

    @staticmethod
    def naive(head, image, first_features=None, start_mask=None):
        """The heatmaps and masks by eqs. 1-5, and the parameters and norms that they were made with.

        ``first_features(image, n)`` is what stands before flow n's first deconvolution.
        """
        params, norms = reference.leaves(head), {}
        flows = head.deconv_layers.flows.number
        for name, module in head.named_modules():
            if isinstance(module, MFBN):
                gamma, alpha = params[f"{name}.weight"], params[f"{name}.bias"]
                norms[name] = reference.MultiFlowNorm(gamma, alpha, flows, training=head.training)
                norms[name].mean = list(module.running_mean.clone())
                norms[name].var = list(module.running_var.clone())

        def below(tensors, prefix):
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        def stage(index):
            weight = params[f"deconv_layers.{3 * index}.weight"]
            norm = norms[f"deconv_layers.{3 * index + 1}"]

            def run(x, n):
                if index == 0 and first_features is not None:
                    x = first_features(x, n)
                return norm(reference.deconv(x, weight), n).clamp(min=0)

            return run

        def attention(index):
            prefix = f"deconv_layers.anars.{index}."
            depth = 3 + 2 * len(head.deconv_layers.anars[index].downs)
            return lambda x, n: reference.anar(x, n, depth, below(params, prefix), below(norms, prefix))

        h, g = [stage(i) for i in range(len(WIDTHS))], [attention(i) for i in range(len(WIDTHS) - 1)]
        outputs, masks = reference.r2dns(h, g, image, flows, head.deconv_layers.flows.eta, start_mask)
        x = outputs[-1]
        if isinstance(head.conv_layers, nn.Sequential):
            x = F.conv2d(x, params["conv_layers.0.weight"], params["conv_layers.0.bias"], padding=1)
            x = norms["conv_layers.1"](x, flows).clamp(min=0)
        heatmaps = F.conv2d(x, params["final_layer.weight"], params["final_layer.bias"])
        return heatmaps, masks, params, norms

    @staticmethod
    def assert_same_state(head, params, norms):
        for name, p in head.named_parameters():
            assert p.grad is not None, name
            torch.testing.assert_close(
                p.grad, params[name].grad, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}"
            )
        for name, norm in norms.items():
            module = head.get_submodule(name)
            torch.testing.assert_close(module.running_mean, torch.stack(norm.mean), **TOLERANCE)
            torch.testing.assert_close(module.running_var, torch.stack(norm.var), **TOLERANCE)

    @staticmethod
    def assert_same_masks(masks, expected):
        assert {(stage + 1, n) for stage, n in masks} == set(expected)
        for (stage, n), mask in masks.items():
            torch.testing.assert_close(mask, expected[stage + 1, n], **TOLERANCE)

    @pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
    @pytest.mark.parametrize(
        "options",
        [
            dict(anar=3),
            dict(anar=5, **INTERMEDIATE),
            dict(anar=7),
            dict(anar=3, flows=2),
            dict(anar=3, eta=0.25, first_mask="ones"),
        ],
        ids=lambda o: "-".join(f"{k}{v}" for k, v in o.items() if k in ("anar", "flows", "eta")),
    )
    def test_flows_of_the_features(self, options, training):
        head = shake(build(**options)).double().train(training)
        start_mask = 1 if options.get("first_mask") == "ones" else None
        x = features(5, 4, dtype=torch.float64)[0].requires_grad_()
        image = x.detach().clone().requires_grad_()
        expected, masks, params, norms = self.naive(head, image, start_mask=start_mask)
        heatmaps = head((x,))
        assert heatmaps.shape == (2, 17, 40, 32)
        torch.testing.assert_close(heatmaps, expected, **TOLERANCE)
        if not training:
            self.assert_same_masks(head.attention_masks((x,)), masks)
        backward([heatmaps])
        backward([expected])
        torch.testing.assert_close(x.grad, image.grad, **TOLERANCE)
        self.assert_same_state(head, params, norms)

    @pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
    @pytest.mark.parametrize("flows", [2, 3])
    def test_flows_of_the_image(self, flows, training):
        backbone = shake(build_backbone(flows)).double().train(training)
        head = shake(build(in_channels=64, flows=flows, flow_inputs="pyramid")).double().train(training)
        plain = {}
        for n in range(1, flows + 1):
            plain[n] = in_mode(MODELS.build(BACKBONE).double(), training)
            shapes = {key: value.shape for key, value in plain[n].state_dict().items()}
            state = backbone.state_dict()
            assert state.keys() == shapes.keys()
            plain[n].load_state_dict({k: v if v.shape == shapes[k] else v[n - 1] for k, v in state.items()})
        x = torch.randn(2, 3, 129, 97, dtype=torch.float64, requires_grad=True)
        image = x.detach().clone().requires_grad_()
        expected, masks, params, norms = self.naive(head, image, lambda y, n: plain[n](y)[-1])
        feats = backbone(x)
        assert [y.shape[2:] for y in feats] == [(2, 1), (3, 2), (5, 4)][3 - flows :]
        heatmaps = head(feats)
        torch.testing.assert_close(heatmaps, expected, **TOLERANCE)
        if not training:
            self.assert_same_masks(head.attention_masks(feats), masks)
        backward([heatmaps])
        backward([expected])
        torch.testing.assert_close(x.grad, image.grad, **TOLERANCE)
        self.assert_same_state(head, params, norms)
        for name, p in backbone.named_parameters():
            grad = sum(twin.get_parameter(name).grad for twin in plain.values())
            torch.testing.assert_close(p.grad, grad, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")
        for name, norm in backbone.named_modules():
            if isinstance(norm, MFBN):
                twins = [plain[n].get_submodule(name) for n in plain]
                for key in ("running_mean", "running_var", "num_batches_tracked"):
                    each = torch.stack([getattr(twin, key) for twin in twins])
                    torch.testing.assert_close(getattr(norm, key), each, **TOLERANCE)


def anar_parameters(channels, depth, c=512):
    """By table 1: convolutions without biases, two parameters for each channel of a norm, the last 1x1."""

    def unit(c_in, c_out, kernel):
        return kernel * kernel * c_in * c_out + 2 * c_out

    last = c // 32 + 1
    if depth == 3:
        return unit(channels, c // 8, 1) + unit(c // 8, c // 32, 4) + last
    down, up, skip = unit(c // 4, c // 8, 3), unit(c // 16, c // 32, 4), unit(c // 4, c // 16, 1)
    if depth == 5:
        return unit(channels, c // 4, 1) + down + unit(c // 8, c // 16, 4) + skip + up + last
    downs = down + unit(c // 8, c // 8, 3)
    ups = unit(c // 8, c // 16, 4) + unit(c // 16, c // 16, 4) + up
    return unit(channels, c // 4, 1) + downs + ups + unit(c // 8, c // 16, 1) + skip + last


@pytest.mark.parametrize("anar, count", [(3, 32_945), (5, 152_113), (7, 207_665)])
def test_parameters(anar, count):
    assert anar_parameters(256, anar) == count
    options = dict(in_channels=2048, deconv_out_channels=(256, 256, 256))
    with torch.device("meta"):
        plain, head = build("HeatmapHead", **options), build(width=512, anar=anar, **options)
    added = sum(p.numel() for p in head.parameters()) - sum(p.numel() for p in plain.parameters())
    assert added == 2 * count
    new = dict(head.named_parameters()).keys() - dict(plain.named_parameters()).keys()
    assert all(name.startswith(("deconv_layers.anars.0.", "deconv_layers.anars.1.")) for name in new)


class TestWithMasksOfOneHalfItIsThePlainHead:
    """Bit for bit."""

    @staticmethod
    def pair(**options):
        plain = shake(build("HeatmapHead", **options))
        return plain, with_half_masks(from_plain(plain, **options))

    @pytest.mark.parametrize("kernels", [(4, 4, 4), (3, 2, 4)], ids=str)
    @pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
    def test_heatmaps(self, kernels, training):
        plain, head = self.pair(deconv_kernel_sizes=kernels, **INTERMEDIATE)
        feats = features(9, 7)
        assert torch.equal(head.train(training)(feats), plain.train(training)(feats))
        for name, norm in plain.named_modules():
            if isinstance(norm, nn.BatchNorm2d):
                assert torch.equal(head.get_submodule(name).running_var[-1], norm.running_var), name

    def test_loss(self):
        from mmpose.testing import get_packed_inputs

        plain, head = self.pair()
        feats, samples = features(8, 6), get_packed_inputs(2)["data_samples"]
        ours, theirs = head.loss(feats, samples), plain.loss(feats, samples)
        assert ours.keys() == theirs.keys() >= {"loss_kpt", "acc_pose"}
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)

    def test_flip_test_and_decoding(self):
        from mmpose.testing import get_packed_inputs

        plain, head = self.pair()
        feats = [features(8, 6), features(8, 6)]
        samples = get_packed_inputs(2)["data_samples"]
        test_cfg = dict(flip_test=True, flip_mode="heatmap", shift_heatmap=True, output_heatmaps=True)
        ours, theirs = (h.eval().predict(feats, samples, test_cfg) for h in (head, plain))
        for (mine, my_maps), (its, its_maps) in zip(zip(*ours), zip(*theirs), strict=True):
            assert (mine.keypoints == its.keypoints).all() and mine.keypoints.shape == (1, 17, 2)
            assert (mine.keypoint_scores == its.keypoint_scores).all()
            assert torch.equal(my_maps.heatmaps, its_maps.heatmaps)


def test_flip_test_of_a_pyramid():
    head = shake(build(flow_inputs="pyramid")).eval()
    from mmpose.testing import get_packed_inputs

    samples = get_packed_inputs(1)["data_samples"]
    feats, flipped = (tuple(torch.randn(1, 6, *s) for s in [(2, 2), (4, 3), (8, 6)]) for _ in range(2))
    test_cfg = dict(flip_test=True, output_heatmaps=True)
    _, (field,) = head.predict([feats, flipped], samples, test_cfg)
    mirrored = head(flipped).flip(-1)[:, samples[0].metainfo["flip_indices"]]
    torch.testing.assert_close(field.heatmaps, (head(feats) + mirrored)[0] / 2)


@READINGS
@pytest.mark.parametrize("size", [(9, 7), (8, 6), (3, 1), (1, 1)], ids=str)
def test_any_size(flow_inputs, size):
    head = build(flow_inputs=flow_inputs).eval()
    feats = features(*size)
    if flow_inputs == "pyramid":
        sizes = [tuple(-(-s // factor) for s in size) for factor in (4, 2, 1)]
        feats = tuple(torch.randn(2, 6, *s) for s in sizes)
    assert head(feats).shape[2:] == tuple(8 * s for s in size)
    masks = head.attention_masks(feats)
    assert sorted(masks) == [(0, 2), (0, 3), (1, 3)]
    assert [masks[stage, 3].shape for stage in (0, 1)] == [
        (2, 1, *(2 ** (stage + 1) * s for s in size)) for stage in (0, 1)
    ]
    assert all(mask.min() > 0 and mask.max() < 1 for mask in masks.values())


@READINGS
@pytest.mark.parametrize("anar", [2, 3, 5, 7])
def test_every_parameter_learns(flow_inputs, anar):
    head = build(flow_inputs=flow_inputs, anar=anar, **INTERMEDIATE)
    head.init_weights()
    backward([head(maps_for(flow_inputs))])
    for name, p in head.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
        assert p.grad.any() or name == "conv_layers.0.bias", name  # a norm takes this bias away


def test_every_norm_is_a_multi_flow_one():
    norms = [m for m in build(flows=2, **INTERMEDIATE).modules() if hasattr(m, "running_mean")]
    assert len(norms) == 4 + 2 * 2 and all(type(m).__name__ == "MFBN2d" for m in norms)
    assert {m.num_flows for m in norms} == {2}


class TestInitialization:
    def test_the_head_keeps_its_rule_and_masks_start_near_one_half(self):
        head = build(in_channels=2048, deconv_out_channels=(256, 256), deconv_kernel_sizes=(4, 4), flows=2)
        for p in head.parameters():
            nn.init.constant_(p, 3.0)
        head.init_weights()
        for name in ("deconv_layers.0", "deconv_layers.3", "final_layer"):
            weight = head.get_submodule(name).weight
            assert abs(weight.std().item() - 0.001) < 1e-4, name
        (anar,) = head.deconv_layers.anars
        assert not anar.mask.bias.any()
        # Kaiming's rule: sqrt(2 / 64) for the 64 maps that the first 1x1 gives each pixel.
        assert abs(anar.reduce[0].weight.std().item() / (2 / anar.reduce[0].out_channels) ** 0.5 - 1) < 0.1
        feats = (torch.randn(2, 2048, 8, 6),)
        assert (head.eval().attention_masks(feats)[0, 2] - 0.5).abs().max() < 0.2

    def test_a_second_call_changes_nothing(self):
        head = build()
        head.init_weights()
        before = copy.deepcopy(head.state_dict())
        head.init_weights()
        assert all(torch.equal(head.state_dict()[key], value) for key, value in before.items())

    def test_a_checkpoint_as_pretrained_gives_the_anars_too(self, tmp_path):
        trained = shake(build())
        for p in trained.parameters():
            nn.init.uniform_(p, -1, 1)
        state = {f"head.{key}": value for key, value in trained.state_dict().items()}
        torch.save(dict(state_dict=state), tmp_path / "pose.pth")
        init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "pose.pth"), prefix="head.")
        head = build(init_cfg=init_cfg)
        head.init_weights()
        for key, value in trained.state_dict().items():
            assert torch.equal(head.state_dict()[key], value), key


class TestUpstreamCheckpoints:
    def test_load_with_a_report(self, tmp_path, log):
        plain, head = shake(build("HeatmapHead")), build()
        model, other = nn.ModuleDict({"head": head}), nn.ModuleDict({"head": plain})
        torch.save(dict(state_dict=other.state_dict(), meta={}), tmp_path / "simplebaseline.pth")
        log.clear()
        load_checkpoint(model, str(tmp_path / "simplebaseline.pth"))
        # 3 deconvolutions, weight, bias, mean and variance of 3 norms, weight and bias of the last layer.
        new = len([key for key in head.state_dict() if "anars" in key and "batches" not in key])
        assert f"TDAFHeatmapHead: 17 of {17 + new} keys loaded, {new} new (deconv_layers.anars)" in log
        for key, value in plain.state_dict().items():
            ours = head.state_dict()[key]
            assert all(torch.equal(v, value) for v in (ours if ours.shape != value.shape else [ours])), key

    def test_of_the_first_mmpose(self):
        head = build(**INTERMEDIATE)
        state = build("HeatmapHead", **INTERMEDIATE).state_dict()
        del state._metadata
        old = {key.replace("conv_layers.", "final_layer."): v for key, v in state.items() if "de" not in key}
        old = {key.replace("final_layer.weight", "final_layer.3.weight"): v for key, v in old.items()}
        old = {key.replace("final_layer.bias", "final_layer.3.bias"): v for key, v in old.items()}
        assert not head.load_state_dict(old, strict=False).unexpected_keys
        assert torch.equal(head.conv_layers[0].weight, state["conv_layers.0.weight"])


class TestCopies:
    @READINGS
    def test_deepcopy_and_pickle(self, flow_inputs):
        head = shake(build(flow_inputs=flow_inputs)).eval()
        feats = maps_for(flow_inputs)
        for twin in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
            assert not {id(p) for p in head.parameters()} & {id(p) for p in twin.parameters()}
            assert torch.equal(twin(feats), head(feats))

    @pytest.mark.parametrize("convert", [nn.SyncBatchNorm.convert_sync_batchnorm, convert_sync_batchnorm])
    def test_synchronized_norms(self, convert):
        head = shake(build())
        twin = convert(copy.deepcopy(head))
        assert {type(m).__name__ for m in twin.modules() if isinstance(m, MFBN)} == {"MFSyncBN"}
        feats = features(9, 7)
        torch.testing.assert_close(twin(feats), head(feats))
        assert twin.state_dict().keys() == head.state_dict().keys()


class TestCompilers:
    @pytest.fixture(autouse=True)
    def forget_compiled_code(self):
        torch._dynamo.reset()
        yield
        torch._dynamo.reset()

    @pytest.mark.parametrize("flow_inputs", thinned(["features", "pyramid"], ["features"]))
    def test_compiled_it_equals_eager(self, flow_inputs):
        head = shake(build(flow_inputs=flow_inputs)).double()
        twin = copy.deepcopy(head)
        feats = maps_for(flow_inputs, torch.float64)
        heatmaps = torch.compile(head, fullgraph=True, backend="aot_eager")(feats)
        expected = twin(feats)
        torch.testing.assert_close(heatmaps, expected, **TOLERANCE)
        backward([heatmaps])
        backward([expected])
        for name, p in twin.named_parameters():
            torch.testing.assert_close(head.get_parameter(name).grad, p.grad, **TOLERANCE)
        for key, value in twin.state_dict().items():
            torch.testing.assert_close(head.state_dict()[key], value, **TOLERANCE)

    @READINGS
    def test_exported_it_equals_eager(self, flow_inputs):
        head, feats = shake(build(flow_inputs=flow_inputs)).eval(), maps_for(flow_inputs)
        program = torch.export.export(head, (feats,))
        torch.testing.assert_close(program.module()(feats), head(feats))


class TestMistakes:
    @pytest.mark.parametrize(
        "options, message",
        [
            (
                dict(flows=1),
                r"flows must be a whole number in 2\.\.3 \(the number of deconvolutions\), got 1",
            ),
            (
                dict(flows=4),
                r"flows must be a whole number in 2\.\.3 \(the number of deconvolutions\), got 4",
            ),
            (dict(flows="3"), r"flows must be a whole number .* got '3'"),
            (dict(anar=4), r"ANAR depth must be one of \[2, 3, 5, 7\], got 4"),
            (dict(width="wide"), "ANAR width must be 'stage' or a number of at least 32, got 'wide'"),
            (dict(eta=2), r"eta must be a number in 0\.\.1, got 2"),
            (dict(eta="half"), r"eta must be a number in 0\.\.1, got 'half'"),
            (dict(first_mask="zeros"), "first_mask must be 'none' or 'ones', got 'zeros'"),
            (dict(flow_inputs="images"), "flow_inputs must be 'features' or 'pyramid', got 'images'"),
            (dict(deconv_out_channels=None), "deconv_out_channels must define at least two .* got None"),
            (
                dict(deconv_out_channels=(8,), deconv_kernel_sizes=(4,)),
                r"deconv_out_channels must define at least two deconvolutions, got \(8,\)",
            ),
            (dict(deconv_out_channels=(8, 8)), '"deconv_out_channels" and "deconv_kernel_sizes" should'),
            (dict(flow=3), "unknown option 'flow'; expected one of flows, anar, .*, in_channels, "),
            (dict(depthwise=True), "unknown option 'depthwise'"),
        ],
        ids=str,
    )
    def test_of_the_config(self, options, message):
        with pytest.raises(ConfigError, match=f"^attn_mm.TDAFHeatmapHead: .*{message}"):
            build(**options)

    @pytest.mark.parametrize(
        "options, shapes",
        [
            (dict(), [(6, 2, 2), (6, 3, 3), (6, 5, 5)]),  # the backbone's a pyramid
            (dict(flow_inputs="pyramid"), [(6, 5, 5)]),  # the backbone's plain
            (dict(flow_inputs="pyramid"), [(6, 3, 3), (6, 5, 5)]),  # the backbone has 2 flows
            (dict(flow_inputs="pyramid", flows=2), [(6, 2, 2), (6, 3, 3), (6, 5, 5)]),
            (dict(flow_inputs="pyramid"), [(2, 9, 9), (4, 5, 5), (6, 3, 3)]),  # stages of one flow
            (dict(flow_inputs="pyramid"), [(6, 9, 9), (6, 5, 5), (6, 3, 3)]),  # levels of a neck
            (dict(flow_inputs="pyramid"), [(4, 3, 3), (5, 3, 3), (6, 3, 3)]),  # dilated stages
        ],
        ids=str,
    )
    def test_head_and_backbone_disagree(self, options, shapes):
        head = build(**options)
        feats = tuple(torch.randn(2, *shape) for shape in shapes)
        sizes = ", ".join("x".join(map(str, shape)) for shape in shapes)
        with pytest.raises(ConfigError, match=f"got .*{sizes}: .*attn_mm.FlowPyramid") as error:
            head(feats)
        assert "\n" not in str(error.value)
        with pytest.raises(ConfigError):
            head.attention_masks(feats)

    def test_what_is_no_mistake(self):
        head = build().eval()
        last = torch.randn(2, 6, 3, 3)
        stages = (torch.randn(2, 3, 9, 9), torch.randn(2, 4, 5, 5), last)
        assert torch.equal(head(stages), head((last,)))
        levels = (torch.randn(2, 6, 9, 9), torch.randn(2, 6, 5, 5), last)
        assert torch.equal(head(levels), head((last,)))
