"""TDAF is the recursion over the layers of an upstream backbone, and stays a good upstream backbone."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest
import torch
from grafted import BOTTLENECKS, with_26_layers
from layers import reference
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import load_checkpoint
from thinned import thinned
from torch import nn

from attn_mm.errors import ConfigError
from attn_mm.layers import MFBN, as_written, flow

TOLERANCE = dict(rtol=1e-10, atol=1e-10)
SMALL = dict(base_channels=8, stem_channels=8)
GROUPS = {
    "mmdet.ResNeXt": dict(groups=4, base_width=4),
    "mmdet.Res2Net": dict(scales=4, base_width=8),
    "mmpose.ResNeXt": dict(groups=4, width_per_group=4),
    "mmpretrain.ResNeXt": dict(groups=4, width_per_group=4),
}
BACKBONES = [
    ("mmdet.ResNet", 18),
    ("mmdet.ResNet", BOTTLENECKS),
    ("mmdet.ResNeXt", BOTTLENECKS),
    ("mmdet.ResNetV1d", BOTTLENECKS),
    ("mmdet.Res2Net", BOTTLENECKS),
    ("mmdet.ResNeSt", BOTTLENECKS),
    ("mmpose.ResNet", 18),
    ("mmpose.ResNet", BOTTLENECKS),
    ("mmpose.ResNeXt", BOTTLENECKS),
    ("mmpose.ResNetV1d", BOTTLENECKS),
    ("mmpose.SEResNet", BOTTLENECKS),
    ("mmpretrain.ResNet", 18),
    ("mmpretrain.ResNet", 34),
    ("mmpretrain.ResNet", BOTTLENECKS),
    ("mmpretrain.ResNeXt", BOTTLENECKS),
    ("mmpretrain.ResNetV1c", BOTTLENECKS),
    ("mmpretrain.ResNetV1d", BOTTLENECKS),
    ("mmpretrain.SEResNet", BOTTLENECKS),
    ("mmpretrain.ResNet_CIFAR", 18),
]
VIDEO = [
    ("mmaction.ResNet3d", 18),
    ("mmaction.ResNet3d", BOTTLENECKS),
    ("mmaction.ResNet3dSlowOnly", BOTTLENECKS),
    ("mmaction.ResNet2Plus1d", 18),
    ("attn_mm.HaraResNet3d", BOTTLENECKS),
]
VIDEO_SHOWN = [(VIDEO[0], 9), (VIDEO[0], 12), (("mmaction.ResNet2Plus1d", 18), 9)]
"""Of mmaction; its 2D ResNet can't be narrow, and is in the matrix of the configs."""
SHOWN = [
    ("mmdet.ResNet", BOTTLENECKS),
    ("mmdet.Res2Net", BOTTLENECKS),
    ("mmdet.ResNeSt", BOTTLENECKS),
    ("mmpose.ResNet", 18),
    ("mmpretrain.ResNeXt", BOTTLENECKS),
    ("mmpretrain.ResNetV1d", BOTTLENECKS),
    ("mmpretrain.SEResNet", BOTTLENECKS),
    ("mmpretrain.ResNet_CIFAR", 18),
]
"""Each kind of stem and block in one framework."""
ALL_BACKBONES = pytest.mark.parametrize("backbone", thinned(BACKBONES, SHOWN), ids=lambda b: f"{b[0]}-{b[1]}")
EACH_FRAMEWORK = pytest.mark.parametrize(
    "backbone", [(f"{f}.ResNet", 18) for f in ("mmdet", "mmpose", "mmpretrain")], ids=lambda b: b[0]
)


def config(backbone, **options):
    """A narrow backbone that gives the maps of all four stages and trains all of its norms."""
    kind, depth = backbone
    pytest.importorskip(f"{kind.split('.')[0]}.models")
    with_26_layers(kind)
    common = dict(SMALL, out_indices=(0, 1, 2, 3), norm_eval=False, frozen_stages=-1)
    if backbone in VIDEO:
        conv = pytest.importorskip("mmaction.models").Conv2plus1d if "2Plus1d" in kind else nn.Conv3d
        common.pop("stem_channels")
        common |= dict(pretrained2d=False, conv_cfg=dict(type=conv))
    return dict(type=kind, depth=depth, **{**common, **GROUPS.get(kind, {}), **options})


def maps_of(net, x):
    """What ``net`` gives, as a list: mmaction's backbones give one map bare."""
    y = net(x)
    return [y] if isinstance(y, torch.Tensor) else list(y)


def build(backbone, flows=3, anar=3, **options):
    return MODELS.build(
        dict(type="attn_mm.TDAF", backbone=config(backbone, **options), flows=flows, anar=anar, width=64)
    )


def image(*size, batch=2, dtype=torch.float32):
    return torch.randn(batch, 3, *(size or (49, 65)), dtype=dtype)


def multi_flow_norms(net):
    return {name: m for name, m in net.named_modules() if isinstance(m, MFBN)}


def shake(net):
    """Parameters and statistics worth comparing: other than at the start, and other for each flow."""
    for norm in multi_flow_norms(net).values():
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return net


def backward(outputs):
    """Back-propagate the same random weighting of the maps whenever the seed is the same."""
    torch.manual_seed(1)
    sum((torch.randn_like(y) * y).mean() for y in outputs).backward()


class TestIsTheRecursionOverTheUpstreamLayers:
    @staticmethod
    def naive(net, upstream, x, anar):
        """Eqs. 1-5 over a plain upstream backbone for each flow, in the state of ``net``."""
        flows = net.attn_mm.flows.number
        params, norms = reference.leaves(net.anars), {}
        for name, module in multi_flow_norms(net.anars).items():
            gamma, alpha = params[f"{name}.weight"], params[f"{name}.bias"]
            norms[name] = reference.MultiFlowNorm(gamma, alpha, flows, training=net.training)
            norms[name].mean, norms[name].var = (
                list(module.running_mean.clone()),
                list(module.running_var.clone()),
            )
        plain = {}
        for n in range(1, net.attn_mm.flows.number + 1):
            plain[n] = copy.deepcopy(upstream).double()
            plain[n].train(net.training)
            shapes = {key: value.shape for key, value in plain[n].state_dict().items()}
            plain[n].load_state_dict(
                {
                    key: value if value.shape == shapes[key] else value[n - 1]
                    for key, value in net.state_dict().items()
                    if key in shapes
                }
            )

        def stage(index):
            def run(x, n):
                if index > 0:
                    return getattr(plain[n], f"layer{index + 1}")(x)
                # The stem is whatever upstream's own forward does before its first stage.
                whole, plain[n].res_layers = plain[n].res_layers, plain[n].res_layers[:1]
                (y,) = maps_of(plain[n], x)
                plain[n].res_layers = whole
                return y

            return run

        def attention(index):
            def pick(tensors):
                prefix = f"{index}."
                return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

            return lambda x, n: reference.anar(x, n, anar, pick(params), pick(norms))

        h, g = [stage(i) for i in range(4)], [attention(i) for i in range(3)]
        return *reference.r2dns(h, g, x, net.attn_mm.flows.number), plain, params, norms

    def assert_same_run(self, backbone, training, size=(), batch=2, anar=3, **options):
        net = shake(build(backbone, anar=anar, **options)).double().train(training)
        options.pop("flows", None)
        x = image(*size, batch=batch, dtype=torch.float64)
        expected, masks, plain, params, norms = self.naive(
            net, MODELS.build(config(backbone, **options)), x, anar
        )
        outputs = net(x)
        torch.testing.assert_close(list(outputs), expected, **TOLERANCE)
        if not training:
            for (stage, n), mask in net.attention_masks(x).items():
                torch.testing.assert_close(mask, masks[stage + 1, n], **TOLERANCE)
        backward(outputs)
        backward(expected)
        for name, p in net.named_parameters():
            if name.startswith("anars."):
                grad = params[name.removeprefix("anars.")].grad
            else:
                shared = [dict(twin.named_parameters())[name].grad for twin in plain.values()]
                grad = sum(g for g in shared if g is not None)
            torch.testing.assert_close(p.grad, grad, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")
        for name, norm in multi_flow_norms(net).items():
            if name.startswith("anars."):
                twin = norms[name.removeprefix("anars.")]
                mean, var, batches = twin.mean, twin.var, twin.batches
            else:
                twins = [plain[n].get_submodule(name) for n in range(1, net.attn_mm.flows.number + 1)]
                mean, var = [t.running_mean for t in twins], [t.running_var for t in twins]
                batches = [int(t.num_batches_tracked) for t in twins]
            torch.testing.assert_close(norm.running_mean, torch.stack(mean), **TOLERANCE)
            torch.testing.assert_close(norm.running_var, torch.stack(var), **TOLERANCE)
            assert norm.num_batches_tracked.tolist() == batches, name

    @pytest.mark.parametrize("training", thinned([True, False], [True]), ids=["train", "eval"])
    @ALL_BACKBONES
    def test_three_flows(self, backbone, training):
        self.assert_same_run(backbone, training)

    @pytest.mark.parametrize("training", thinned([True, False], [True]), ids=["train", "eval"])
    @pytest.mark.parametrize(
        "backbone, frames",
        [
            pytest.param(b, frames, marks=() if (b, frames) in VIDEO_SHOWN else pytest.mark.whole)
            for b, frames in product(VIDEO, (9, 12))
        ],
        ids=str,
    )
    def test_of_videos(self, backbone, frames, training):
        # Maps end with one place: a norm over two values would make a difference of rounding a large one.
        self.assert_same_run(backbone, training, size=(frames, 25, 20), batch=8, anar=5)

    @pytest.mark.parametrize("flows", [2, 4])
    def test_other_numbers_of_flows(self, flows):
        self.assert_same_run(("mmpretrain.ResNet", 18), True, flows=flows)


@ALL_BACKBONES
def test_upstream_keys_shapes_and_state_hold(backbone, log):
    upstream, net = MODELS.build(config(backbone)), build(backbone)
    assert isinstance(net, type(upstream))
    new = net.state_dict().keys() - upstream.state_dict().keys()
    assert not upstream.state_dict().keys() - net.state_dict().keys()
    assert new and all(key.startswith("anars.") for key in new)
    x = image()
    assert [y.shape for y in net(x)] == [y.shape for y in upstream(x)]

    log.clear()
    missing, unexpected = net.load_state_dict(upstream.state_dict(), strict=False)
    assert {key for key in new if "num_batches_tracked" not in key} == set(missing) and not unexpected
    for name, p in upstream.named_parameters():
        assert torch.equal(net.get_parameter(name), p), name
    loaded = sum("num_batches_tracked" not in key for key in upstream.state_dict())
    added = sum("num_batches_tracked" not in key for key in new)
    assert log == [
        f"{type(net).__name__}: {loaded} of {loaded + added} keys loaded, "
        f"{added} new (anars.0, anars.1, anars.2)"
    ]


@ALL_BACKBONES
def test_every_parameter_learns(backbone):
    net = build(backbone)
    backward(net(image()))
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
        assert p.grad.any(), name


@pytest.mark.parametrize("framework", ["mmdet", "mmpose", "mmpretrain"])
def test_the_deep_one_builds(framework):
    net = build((f"{framework}.ResNet", 101), anar=5)
    assert [len(net.get_submodule(name)) for name in net.res_layers] == [3, 4, 23, 3]
    assert [a.reduce[0].in_channels for a in net.anars] == [32, 64, 128]


@pytest.mark.parametrize("anar", [2, 3, 5, 7])
def test_anar_and_its_width_are_as_asked(anar):
    from attn_mm.layers import ANAR

    net = MODELS.build(
        dict(type="attn_mm.TDAF", backbone=config(("mmdet.ResNet", 50)), flows=2, anar=anar, width="stage")
    )
    expected = [ANAR(c, anar, "stage") for c in (32, 64, 128)]
    assert [a.state_dict().keys() for a in net.anars] == [a.state_dict().keys() for a in expected]
    for ours, theirs in zip(net.anars.parameters(), nn.ModuleList(expected).parameters()):
        assert ours.shape == theirs.shape
    backward(net(image()))


@pytest.mark.parametrize("num_stages, flows", [(2, 2), (3, 3)])
def test_fewer_stages_have_fewer_anars(num_stages, flows):
    stages = dict(
        num_stages=num_stages,
        strides=(1, 2, 2)[:num_stages],
        dilations=(1,) * num_stages,
        out_indices=tuple(range(num_stages)),
    )
    net = build(("mmdet.ResNet", 18), flows=flows, **stages)
    assert len(net.anars) == num_stages - 1
    assert len(net(image())) == num_stages


@pytest.mark.parametrize("out_indices", [(0,), (1, 3), (3, 1)], ids=str)
def test_out_indices_mean_what_they_meant(out_indices):
    backbone, x = ("mmpretrain.ResNet", 18), image()
    upstream = MODELS.build(config(backbone, out_indices=out_indices))
    assert [y.shape for y in build(backbone, out_indices=out_indices)(x)] == [y.shape for y in upstream(x)]


def test_eta_and_first_mask_reach_the_recursion():
    x = image(dtype=torch.float64)
    net = build(("mmdet.ResNet", 18)).double().eval()
    reference_outputs = net(x)
    net.attn_mm.flows.eta = 0.0
    assert not torch.allclose(net(x)[0], reference_outputs[0])
    options = dict(type="attn_mm.TDAF", backbone=config(("mmdet.ResNet", 18)), width=64)
    other = MODELS.build(dict(options, eta=0.0)).double().eval()
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other(x), net(x), **TOLERANCE)
    # With eta = 1 a first mask of ones doubles the map of the only flow of the last stage.
    ones = MODELS.build(dict(options, eta=1.0, first_mask="ones")).double().eval()
    ones.load_state_dict(net.state_dict())
    net.attn_mm.flows.eta = 1.0
    last = []
    ones.layer4.register_forward_hook(lambda m, args, y: last.append(y))
    torch.testing.assert_close(ones(x)[3], 2 * last[-1], **TOLERANCE)


def test_synchronized_and_group_norms_are_understood():
    net = build(("mmdet.ResNet", 18), norm_cfg=dict(type="SyncBN"))
    assert {type(m).__name__ for m in multi_flow_norms(net).values()} == {"MFSyncBN"}
    backward(net(image()))
    net = build(("mmdet.ResNet", 18), norm_cfg=dict(type="GN", num_groups=4))
    assert not any(m.__module__.startswith("torch.nn.modules.batchnorm") for m in net.modules())
    backward(net(image()))


class TestCopies:
    def test_deepcopy_is_independent(self):
        net = shake(build(("mmdet.ResNet", 50))).double()
        twin = copy.deepcopy(net)
        assert not {id(p) for p in net.parameters()} & {id(p) for p in twin.parameters()}
        assert not {id(b) for b in net.buffers()} & {id(b) for b in twin.buffers()}
        x, before = image(dtype=torch.float64), copy.deepcopy(net.state_dict())
        expected = net.eval()(x)
        torch.testing.assert_close(twin.eval()(x), expected, **TOLERANCE)
        twin.train()
        backward(twin(x))
        assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())
        assert all(p.grad is None for p in net.parameters())

    def test_exponential_moving_average(self):
        net = shake(build(("mmdet.ResNet", 18))).double()
        ema = ExponentialMovingAverage(net, momentum=0.25, update_buffers=True)
        first = copy.deepcopy(net.state_dict())
        ema.update_parameters(net)  # the first update copies
        net.train()(image(dtype=torch.float64))
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        ema.update_parameters(net)
        averaged = ema.module.state_dict()
        assert averaged.keys() == net.state_dict().keys()
        for key, value in net.state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(averaged[key], 0.75 * first[key] + 0.25 * value, **TOLERANCE)
        assert len(ema.eval()(image(dtype=torch.float64))) == 4

    def test_save_and_load(self, tmp_path, log):
        net, other = shake(build(("mmpretrain.ResNet", 50))), shake(build(("mmpretrain.ResNet", 50)))
        torch.save(dict(state_dict=net.state_dict(), meta={}), tmp_path / "tdaf.pth")
        log.clear()
        load_checkpoint(other, str(tmp_path / "tdaf.pth"), strict=True)
        assert not [line for line in log if "keys loaded" in line], "a full load has nothing to report"
        x = image()
        torch.testing.assert_close(other.eval()(x), net.eval()(x), rtol=0, atol=0)

    def test_inside_a_detector_the_report_speaks_of_the_backbone(self, tmp_path, log):
        model = nn.ModuleDict({"backbone": build(("mmdet.ResNet", 18)), "head": nn.Linear(2, 2)})
        state = {k: v for k, v in model.state_dict().items() if "anars" not in k}
        state["backbone.fc.weight"] = torch.zeros(1)
        torch.save(state, tmp_path / "detector.pth")
        load_checkpoint(model, str(tmp_path / "detector.pth"))
        (line,) = [line for line in log if "keys loaded" in line]
        assert "new (anars.0, anars.1, anars.2), 1 unexpected (fc.weight)" in line


class TestFreezing:
    @EACH_FRAMEWORK
    @pytest.mark.parametrize("norm_eval", [False, True])
    @pytest.mark.parametrize("deep_stem", [False, True])
    def test_frozen_stages_stay_frozen_and_anars_learn(self, backbone, deep_stem, norm_eval):
        net = shake(build(backbone, frozen_stages=1, norm_eval=norm_eval, deep_stem=deep_stem))
        frozen = ("stem.",) if deep_stem else ("conv1.", "bn1.")
        frozen += ("layer1.",)
        for _ in range(2):  # the mode of an epoch, and that after a validation
            net.eval()
            assert net.train() is net
            for name, p in net.named_parameters():
                assert p.requires_grad != name.startswith(frozen), name
            for name, norm in multi_flow_norms(net).items():
                kept = f"{name}.".startswith(frozen) or norm_eval
                assert norm.training == (name.startswith("anars.") or not kept), name
        before = copy.deepcopy(net.state_dict())
        backward(net(image()))
        for name, p in net.named_parameters():
            assert (p.grad is None) == name.startswith(frozen), name
        for name, norm in multi_flow_norms(net).items():
            kept = f"{name}.".startswith(frozen) or norm_eval
            changed = not torch.equal(norm.running_mean, before[f"{name}.running_mean"])
            assert changed == (name.startswith("anars.") or not kept), name

    def test_eval_is_eval_everywhere(self):
        net = build(("mmdet.ResNet", 18), norm_eval=True).eval()
        assert not any(m.training for m in net.modules())


class TestGradientCheckpointing:
    @pytest.mark.parametrize(
        "backbone",
        [
            ("mmdet.ResNet", 18),
            ("mmdet.ResNet", BOTTLENECKS),
            ("mmpose.ResNet", 18),
            ("mmpose.SEResNet", BOTTLENECKS),
            ("mmpretrain.ResNet", BOTTLENECKS),
            ("mmpretrain.SEResNet", BOTTLENECKS),
            ("mmpretrain.ResNet_CIFAR", 18),
        ],
        ids=lambda b: f"{b[0]}-{b[1]}",
    )
    def test_with_cp_changes_nothing_but_memory(self, backbone):
        plain, saving = (shake(build(backbone, with_cp=with_cp)).double() for with_cp in (False, True))
        saving.load_state_dict(plain.state_dict())
        before = copy.deepcopy(plain.state_dict())
        runs = []
        saving.layer4[0].conv1.register_forward_pre_hook(lambda m, args: runs.append(args[0].shape))
        x = image(dtype=torch.float64)
        outputs, expected = saving(x), plain(x)
        torch.testing.assert_close(outputs, expected, **TOLERANCE)
        assert len(runs) == 1
        # On a GPU autograd runs in a thread of its own, where no flow is current.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(backward, outputs).result()
        assert len(runs) == 2, "nothing was computed again: the test shows nothing"
        backward(expected)
        for name, p in plain.named_parameters():
            torch.testing.assert_close(saving.get_parameter(name).grad, p.grad, **TOLERANCE)
        # Like upstream's, the second run of a block tracks the same batch a second time.
        for name, norm in multi_flow_norms(plain).items():
            ours = saving.get_submodule(name)
            again = name.startswith("layer")
            assert torch.equal(ours.num_batches_tracked, norm.num_batches_tracked * (2 if again else 1)), name
            for key in ("running_mean", "running_var"):
                once, start = getattr(norm, key), before[f"{name}.{key}"]
                seen = norm.num_batches_tracked.bool()[:, None]
                batch = (once - 0.9 * start) / 0.1
                expected_statistic = torch.where(seen & again, 0.9 * once + 0.1 * batch, once)
                torch.testing.assert_close(getattr(ours, key), expected_statistic, **TOLERANCE)

    def test_only_blocks_with_a_gradient_to_pass_on_run_twice(self):
        net = build(("mmdet.ResNet", 18), with_cp=True, frozen_stages=0)  # the stem is frozen
        runs = []
        for name in ("layer1.0", "layer1.1"):
            conv = net.get_submodule(name).conv1
            conv.register_forward_pre_hook(lambda m, args, n=name: runs.append(n))
        backward(net(image()))
        assert (runs.count("layer1.0"), runs.count("layer1.1")) == (3, 6)

    def test_drop_path_falls_alike_in_both_runs(self):
        plain, saving = (
            build(("mmpretrain.ResNet", 50), with_cp=c, drop_path_rate=0.5).double() for c in (False, True)
        )
        saving.load_state_dict(plain.state_dict())
        x = image(batch=4, dtype=torch.float64)
        for net in (plain, saving):
            torch.manual_seed(5)
            backward(net(x))
        for name, p in plain.named_parameters():
            torch.testing.assert_close(saving.get_parameter(name).grad, p.grad, **TOLERANCE)


def test_drop_path_is_kept():
    backbone = ("mmpretrain.ResNet", 50)
    upstream, net = MODELS.build(config(backbone, drop_path_rate=0.5)), build(backbone, drop_path_rate=0.5)

    def rates(model):
        return [m.drop_prob for m in model.modules() if type(m).__name__ == "DropPath"]

    assert rates(net) == rates(upstream) and max(rates(net)) == 0.5
    x = image(batch=4)
    assert not torch.equal(net(x)[-1], net(x)[-1])
    net.eval()
    torch.testing.assert_close(net(x), net(x), rtol=0, atol=0)


class TestCompilers:
    @pytest.fixture(autouse=True)
    def forget_compiled_code(self):
        torch._dynamo.reset()
        yield
        torch._dynamo.reset()

    # test_its_traced_backward_equals_eager compiles two stages in every run.
    @pytest.mark.parametrize(
        "framework, training",
        [
            pytest.param(*case, marks=pytest.mark.whole)
            for case in (("mmdet", False), ("mmdet", True), ("mmpose", True), ("mmpretrain", True))
        ],
    )
    def test_compiled_whole_it_equals_eager(self, framework, training):
        net = shake(build((f"{framework}.ResNet", 18))).double().train(training)
        twin = copy.deepcopy(net)
        compiled = torch.compile(net, fullgraph=True, backend="eager")
        x = image(dtype=torch.float64)
        outputs, expected = compiled(x), twin(x)
        torch.testing.assert_close(outputs, expected, **TOLERANCE)
        backward(outputs)
        backward(expected)
        for name, p in twin.named_parameters():
            torch.testing.assert_close(net.get_parameter(name).grad, p.grad, **TOLERANCE)
        for key, value in twin.state_dict().items():
            torch.testing.assert_close(
                net.state_dict()[key], value, **TOLERANCE, msg=lambda m, k=key: f"{k}: {m}"
            )

    def test_its_traced_backward_equals_eager(self):
        stages = dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1))
        net = shake(build(("mmdet.ResNet", 18), flows=2, **stages)).double()
        twin = copy.deepcopy(net)
        x = image(dtype=torch.float64)
        backward(torch.compile(net, fullgraph=True, backend="aot_eager")(x))
        backward(twin(x))
        for name, p in twin.named_parameters():
            torch.testing.assert_close(net.get_parameter(name).grad, p.grad, **TOLERANCE)
        for key, value in twin.state_dict().items():
            torch.testing.assert_close(net.state_dict()[key], value, **TOLERANCE)

    @pytest.mark.parametrize("framework", thinned(["mmdet", "mmpose", "mmpretrain"], ["mmpretrain"]))
    def test_exported_it_equals_eager(self, framework):
        net, x = shake(build((f"{framework}.ResNet", 18))).eval(), image()
        program = torch.export.export(net, (x,))
        torch.testing.assert_close(program.module()(x), net(x))


class TestNumericFormats:
    def test_autocast_to_bfloat16_is_close(self):
        net, x = shake(build(("mmdet.ResNet", 18))).eval(), image()
        expected = net(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = net(x)
        for ours, theirs in zip(outputs, expected):
            error = (ours.float() - theirs).norm() / theirs.norm()
            assert 1e-5 < error < 0.03, f"relative error {error:.4f}"

    def test_autocast_trains_with_statistics_in_float32(self):
        net, twin = build(("mmdet.ResNet", 18)), None
        twin = copy.deepcopy(net)
        x = image()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = net(x)
        backward([y.float() for y in outputs])
        twin(x)
        for name, p in net.named_parameters():
            assert p.grad.dtype == torch.float32 and p.grad.isfinite().all(), name
        for name, norm in multi_flow_norms(twin).items():
            ours = net.get_submodule(name).running_var
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours, norm.running_var, rtol=0.05, atol=0.01)

    @pytest.mark.parametrize(
        "backbone", [("mmdet.ResNet", 18), ("mmpretrain.ResNeXt", BOTTLENECKS)], ids=lambda b: b[0]
    )
    def test_channels_last_changes_the_layout_only(self, backbone):
        net, x = shake(build(backbone)).double(), image(dtype=torch.float64)
        twin = copy.deepcopy(net).to(memory_format=torch.channels_last)
        outputs = twin(x.contiguous(memory_format=torch.channels_last))
        for ours, theirs in zip(outputs, net(x)):
            torch.testing.assert_close(ours, theirs, **TOLERANCE)
            assert ours.is_contiguous(memory_format=torch.channels_last)


class TestInitialization:
    @staticmethod
    def masks(net):
        return net.eval().attention_masks(image()).values()

    @pytest.mark.parametrize("anar", [2, 3, 5, 7])
    @EACH_FRAMEWORK
    def test_masks_start_near_one_half(self, backbone, anar):
        net = build(backbone, anar=anar)
        for p in net.anars.parameters():
            nn.init.constant_(p, 3.0)
        net.init_weights()
        assert max((mask - 0.5).abs().max() for mask in self.masks(net)) < 0.2
        assert not any(a.mask.bias.any() for a in net.anars)

    @pytest.mark.parametrize("backbone", VIDEO, ids=lambda b: f"{b[0]}-{b[1]}")
    def test_masks_of_videos_start_near_one_half(self, backbone):
        net = build(backbone, anar=5)
        for p in net.anars.parameters():
            nn.init.constant_(p, 3.0)
        net.init_weights()
        masks = net.eval().attention_masks(image(9, 33, 33)).values()
        assert max((mask - 0.5).abs().max() for mask in masks) < 0.2

    def test_a_video_networks_own_checkpoint_gives_the_anars_too(self, tmp_path):
        backbone = ("mmaction.ResNet3d", 18)
        trained = shake(build(backbone))
        torch.save(dict(state_dict=trained.state_dict()), tmp_path / "tdaf.pth")
        net = build(backbone, pretrained=str(tmp_path / "tdaf.pth"))
        net.init_weights()
        for key, value in trained.state_dict().items():
            assert torch.equal(net.state_dict()[key], value), key

    @EACH_FRAMEWORK
    def test_a_tdaf_checkpoint_as_pretrained_gives_the_anars_too(self, backbone, tmp_path):
        trained = shake(build(backbone))
        for p in trained.anars.parameters():
            nn.init.uniform_(p, -1, 1)
        torch.save(dict(state_dict=trained.state_dict()), tmp_path / "tdaf.pth")
        net = build(backbone, init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "tdaf.pth")))
        net.init_weights()
        for key, value in trained.state_dict().items():
            assert torch.equal(net.state_dict()[key], value), key

    @EACH_FRAMEWORK
    def test_a_backbone_inside_a_checkpoint_is_found_by_its_prefix(self, backbone, tmp_path):
        trained = shake(build(backbone))
        state = {f"backbone.{key}": value for key, value in trained.state_dict().items()}
        torch.save(dict(state_dict=state), tmp_path / "detector.pth")
        init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "detector.pth"), prefix="backbone.")
        net = build(backbone, init_cfg=init_cfg)
        net.init_weights()
        for key, value in trained.state_dict().items():
            assert torch.equal(net.state_dict()[key], value), key

    def test_anars_that_a_checkpoint_does_not_fit_start_near_one_half(self, tmp_path):
        torch.save(build(("mmdet.ResNet", 18)).state_dict(), tmp_path / "narrow.pth")
        init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "narrow.pth"))
        backbone = config(("mmdet.ResNet", 18), init_cfg=init_cfg)
        net = MODELS.build(dict(type="attn_mm.TDAF", backbone=backbone, width=512))
        net.init_weights()
        assert max((mask - 0.5).abs().max() for mask in self.masks(net)) < 0.2

    def test_a_second_call_changes_nothing(self):
        net = build(("mmdet.ResNet", 18))
        net.init_weights()
        before = copy.deepcopy(net.state_dict())
        net.init_weights()
        assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())

    def test_zero_init_residual_is_kept(self):
        net = build(("mmpretrain.ResNet", 50), zero_init_residual=True)
        net.init_weights()
        assert not any(block.norm3.weight.any() for block in net.layer2)

    @EACH_FRAMEWORK
    def test_torchvision_weights_load(self, backbone, tmp_path, log):
        resnet18 = pytest.importorskip("torchvision").models.resnet18(weights=None)
        for module in resnet18.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean)
        torch.save(resnet18.state_dict(), tmp_path / "resnet18.pth")
        init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "resnet18.pth"))
        net = build(backbone, base_channels=64, stem_channels=64, init_cfg=init_cfg)
        net.init_weights()
        (line,) = [line for line in log if "keys loaded" in line]
        assert "new (anars.0, anars.1, anars.2), 2 unexpected (fc.bias, fc.weight)" in line
        assert max((mask - 0.5).abs().max() for mask in self.masks(net)) < 0.2
        x, layer1 = image(), []
        resnet18.layer1.register_forward_hook(lambda m, args, y: layer1.append(y))
        resnet18.eval()(x)
        first_map = []
        net.layer1.register_forward_hook(lambda m, args, y: first_map.append(y))
        net.eval()(x)
        torch.testing.assert_close(first_map[-1], layer1[0])


class TestMistakes:
    @pytest.mark.parametrize(
        "options, message",
        [
            (dict(flows=1), r"flows must be a whole number in 2\.\.4 \(the number of stages\), got 1"),
            (dict(flows=5), r"flows must be a whole number in 2\.\.4 \(the number of stages\), got 5"),
            (dict(anar=4), r"ANAR depth must be one of \[2, 3, 5, 7\], got 4"),
            (dict(width="wide"), "ANAR width must be 'stage' or a number"),
            (dict(first_mask="zeros"), "first_mask must be 'none' or 'ones', got 'zeros'"),
        ],
        ids=str,
    )
    def test_values_out_of_range(self, options, message):
        with pytest.raises(ValueError, match=message):
            MODELS.build(dict(type="attn_mm.TDAF", backbone=config(("mmdet.ResNet", 18)), **options))

    @pytest.mark.parametrize(
        "kind, options",
        [
            ("mmdet.SwinTransformer", {}),
            ("mmdet.PyramidVisionTransformerV2", dict(num_layers=[1, 1, 1, 1])),
            ("mmpretrain.MlpMixer", dict(arch="base")),
        ],
    )
    def test_backbones_without_known_stages(self, kind, options):
        pytest.importorskip(f"{kind.split('.')[0]}.models")
        name = kind.split(".")[1]
        message = (
            rf"^graft attn_mm.TDAF: {name} can't be split into stages: "
            rf"its forward, {name.removesuffix('V2')}'s, is no known chain of stages"
        )
        with pytest.raises(ValueError, match=message):
            MODELS.build(dict(type="attn_mm.TDAF", backbone=dict(type=kind, **options)))

    def test_a_graft_upon_a_graft(self):
        inner = dict(type="attn_mm.TDAF", backbone=config(("mmdet.ResNet", 18)))
        with pytest.raises(ValueError, match="the backbone already has TDAF"):
            MODELS.build(dict(type="attn_mm.TDAF", backbone=inner))

    def test_a_backbone_without_a_type(self):
        with pytest.raises(KeyError, match='must contain the key "type"'):
            MODELS.build(dict(type="attn_mm.TDAF", backbone=dict(depth=18)))


class TestInsideModels:
    def test_mmpretrain_classifier(self):
        pytest.importorskip("mmpretrain.models")
        from mmpretrain.registry import MODELS as MMPRETRAIN
        from mmpretrain.structures import DataSample

        backbone = dict(type="ResNet", depth=18, **SMALL)
        with DefaultScope.overwrite_default_scope("mmpretrain"):
            model = MMPRETRAIN.build(
                dict(
                    type="ImageClassifier",
                    backbone=dict(type="attn_mm.TDAF", backbone=backbone, flows=3, anar=3, width=64),
                    neck=dict(type="GlobalAveragePooling"),
                    head=dict(type="LinearClsHead", num_classes=5, in_channels=64),
                )
            )
        model.init_weights()
        x, samples = image(), [DataSample().set_gt_label(i) for i in (0, 3)]
        model(x, samples, mode="loss")["loss"].backward()
        assert all(p.grad is not None for p in model.parameters())
        assert model.eval()(x, samples, mode="predict")[0].pred_score.shape == (5,)

    def test_mmpose_top_down_estimator(self):
        pytest.importorskip("mmpose.models")
        from mmpose.registry import MODELS as MMPOSE

        with DefaultScope.overwrite_default_scope("mmpose"):
            model = MMPOSE.build(
                dict(
                    type="TopdownPoseEstimator",
                    backbone=dict(
                        type="attn_mm.TDAF", backbone=dict(type="ResNet", depth=18, **SMALL), width=64
                    ),
                    head=dict(
                        type="HeatmapHead",
                        in_channels=64,
                        out_channels=17,
                        deconv_out_channels=(16,),
                        deconv_kernel_sizes=(4,),
                        loss=dict(type="KeypointMSELoss"),
                        decoder=dict(type="MSRAHeatmap", input_size=(48, 64), heatmap_size=(3, 4), sigma=1),
                    ),
                )
            )
        model.init_weights()
        heatmaps = model(image(64, 48), None, mode="tensor")
        assert heatmaps.shape == (2, 17, 4, 4)
        heatmaps.square().mean().backward()
        assert all(p.grad is not None for p in model.parameters())

    def test_mmdet_fcos_config(self):
        pytest.importorskip("mmdet.models")
        from mmdet.registry import MODELS as MMDET
        from mmdet.structures import DetDataSample
        from mmengine.config import Config
        from mmengine.structures import InstanceData

        cfg = Config.fromfile(Path(__file__).parents[3] / "configs" / "fcos_tdaf_r50.py").model
        cfg.backbone.backbone.update(base_channels=8, init_cfg=None)
        cfg.backbone.width = 64
        cfg.neck.update(in_channels=[32, 64, 128, 256], out_channels=32)
        cfg.bbox_head.update(in_channels=32, feat_channels=32)
        with DefaultScope.overwrite_default_scope("mmdet"):
            model = MMDET.build(cfg)
            model.init_weights()
            sample = DetDataSample(metainfo=dict(img_shape=(64, 96), ori_shape=(64, 96), scale_factor=(1, 1)))
            sample.gt_instances = InstanceData(
                bboxes=torch.tensor([[8.0, 8.0, 60.0, 50.0]]), labels=torch.tensor([3])
            )
            losses = model(image(64, 96), [sample, sample], mode="loss")
            sum(losses.values()).backward()
            for name, p in model.named_parameters():
                assert (p.grad is None) != p.requires_grad, name
            result, _ = model.eval()(image(64, 96), [sample, sample], mode="predict")
        assert result.pred_instances.bboxes.shape[1] == 4


def test_masks_belong_to_the_last_pass_and_keep_the_running_flow():
    net = build(("mmdet.ResNet", 18)).eval()
    x = image()
    with flow(0), torch.no_grad():
        masks = net.attention_masks(x)
        assert sorted(masks) == [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    outputs = net(x)
    for (stage, n), mask in masks.items():
        assert mask.shape[:2] == (2, 1)
        if n == 3:
            assert mask.shape[2:] == outputs[stage].shape[2:]


class TestMapsAreMaskedInPlace:
    @staticmethod
    def kept(net, x):
        """How many bytes of maps wait for the backward pass, each piece of memory counted once."""
        own = {t.data_ptr() for t in (*net.parameters(), *net.buffers())}
        kept = {}

        def keep(t):
            kept.setdefault(t.untyped_storage().data_ptr(), t.untyped_storage().nbytes())
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            outputs = net(x)
        del outputs
        return sum(size for place, size in kept.items() if place not in own)

    def test_in_training_and_inference(self):
        net, x = shake(build(("mmpretrain.ResNet", 18))).double(), image(dtype=torch.float64)
        ours, written = copy.deepcopy(net), copy.deepcopy(net)
        with as_written():
            expected = written(x)
            backward(expected)
        backward(outputs := ours(x))
        torch.testing.assert_close(outputs, expected, **TOLERANCE)
        for p, q in zip(ours.parameters(), written.parameters()):
            torch.testing.assert_close(p.grad, q.grad, **TOLERANCE)
        with torch.inference_mode(), as_written():
            expected = written.eval()(x)
        with torch.inference_mode():
            torch.testing.assert_close(ours.eval()(x), expected, **TOLERANCE)

    def test_that_saves_a_map_for_each_mask(self):
        net, x = build(("mmpretrain.ResNet", 18)), image()
        maps = [m.numel() * 8 * 2**stage for (stage, _), m in net.attention_masks(x).items()]
        assert len(maps) == 5
        with as_written():
            written = self.kept(net, x)
        assert written - self.kept(net, x) == 4 * sum(maps)

    def test_what_a_hook_keeps_is_left_alone(self):
        net, x = build(("mmpretrain.ResNet", 18)).eval(), image()
        seen, copies = [], []

        def keep(module, inputs, y):
            seen.append(y)
            copies.append(y.clone())

        handle = net.layer1.register_forward_hook(keep)
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                net(x)
        handle.remove()
        assert len(seen) == 6
        assert all(torch.equal(map_, copied) for map_, copied in zip(seen, copies))


def test_streams_are_an_option():
    net, x = build(("mmpretrain.ResNet", 18)).eval(), image()
    twin = copy.deepcopy(net)
    twin.attn_mm.flows.streams = True
    torch.testing.assert_close(twin(x), net(x), rtol=0, atol=0)
    with pytest.raises(ConfigError, match="streams must be True or False, got 2"):
        MODELS.build(dict(type="attn_mm.TDAF", backbone=config(("mmpretrain.ResNet", 18)), streams=2))
