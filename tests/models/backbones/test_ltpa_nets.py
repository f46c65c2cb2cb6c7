"""The networks of "Learn to pay attention": their size, their arithmetic, and their life in mmpretrain."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from attn_mm.layers.ltpa import GATE
from attn_mm.layers.recording import record_attention

pytest.importorskip("mmpretrain.models")


def attended(local_channels, global_channels=512, classes=10, **options):
    return dict(
        type="attn_mm.LTPAHead",
        num_classes=classes,
        local_channels=local_channels,
        global_channels=global_channels,
        **options,
    )


def linear(channels, classes=10):
    return dict(type="mmpretrain.LinearClsHead", in_channels=channels, num_classes=classes)


def net(name, **options):
    return MODELS.build(dict(type=f"attn_mm.{name}", **options))


def shake(module):
    """Norms and biases other than at the start, so that leaving one out shows."""
    for name, tensor in module.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            nn.init.uniform_(tensor, -0.5, 0.5)
        elif tensor.dim() == 1:
            nn.init.uniform_(tensor, 0.5, 1.5)
    return module


VGG_ATT = dict(type="attn_mm.VGGAtt")
VGG_ATT2 = dict(type="attn_mm.VGGAtt", levels=(2, 3))
VGG_ATT3 = dict(type="attn_mm.VGGAtt", levels=(1, 2, 3))
RN = dict(type="attn_mm.PreActResNet")


@pytest.mark.parametrize(
    "backbone, head, ten_classes, hundred_classes",
    [
        (dict(type="attn_mm.VGG"), linear(512), 14_991_946, 15_038_116),
        (VGG_ATT, attended([512], compatibility="dp"), 19_713_610, 19_759_780),
        (VGG_ATT, attended([512]), 19_714_123, 19_760_293),
        (
            VGG_ATT2,
            attended([512, 512], compatibility="dp", combine="indep"),
            19_719_764,
            19_812_104,
        ),
        (VGG_ATT2, attended([512, 512], combine="indep"), 19_720_790, 19_813_130),
        (VGG_ATT2, attended([512, 512], compatibility="dp"), 19_719_754, 19_812_004),
        (VGG_ATT2, attended([512, 512]), 19_720_780, 19_813_030),
        (VGG_ATT3, attended([256, 512, 512]), 19_856_461, 19_971_751),
        (dict(type="attn_mm.VGGGAP"), linear(512), 14_728_266, 14_774_436),
        (dict(type="attn_mm.VGGPAN"), attended([512]), 24_698_956, 24_745_126),
        (RN, linear(256), 1_703_258, 1_726_388),
        (dict(RN, levels=(3,)), attended([256], 256), 2_360_411, 2_383_541),
        (dict(RN, levels=(2, 3)), attended([128, 256], 256), 2_395_484, 2_430_134),
    ],
)
def test_parameters_are_the_published_ones_to_the_unit(backbone, head, ten_classes, hundred_classes):
    for classes, published in ((10, ten_classes), (100, hundred_classes)):
        with torch.device("meta"):
            parts = MODELS.build(backbone), MODELS.build(dict(head, num_classes=classes))
        assert sum(p.numel() for part in parts for p in part.parameters()) == published


class Naive:
    """Layers written with torch.nn.functional, fed with a module's tensors in their order."""

    def __init__(self, module):
        state = module.state_dict().items()
        self.tensors = iter([t for name, t in state if not name.endswith("num_batches_tracked")])

    def take(self, count):
        return [next(self.tensors) for _ in range(count)]

    def conv(self, x, padding=1, stride=1, bias=False):
        weight, *bias = self.take(2 if bias else 1)
        return F.conv2d(x, weight, *bias, padding=padding, stride=stride)

    def norm(self, x, eps):
        weight, bias, mean, var = (t.view(1, -1, *[1] * (x.dim() - 2)) for t in self.take(4))
        return weight * (x - mean) / (var + eps).sqrt() + bias

    def linear(self, x):
        weight, bias = self.take(2)
        return x @ weight.T + bias

    def vgg(self, x, count):
        """``count`` times conv with bias, BN of eps 1e-3, ReLU; dropout does nothing in eval mode."""
        for _ in range(count):
            x = self.norm(self.conv(x, bias=True), 1e-3).relu()
        return x

    def query(self, x, first_pool=2):
        """conv14, conv15 and the linear layer, each behind a pooling, of a map that gets 2x2."""
        x = self.vgg(F.max_pool2d(x, first_pool), 1)
        x = self.vgg(F.max_pool2d(x, 2), 1)
        return self.linear(F.max_pool2d(x, 2).flatten(1))

    def bottleneck(self, x, stride, widens):
        y = self.norm(x, 1e-5).relu()
        out = self.norm(self.conv(y, 0, stride), 1e-5).relu()
        out = self.norm(self.conv(out), 1e-5).relu()
        out = self.conv(out, 0)
        return out + (self.conv(y, 0, stride) if widens else x)

    def done(self):
        assert next(self.tensors, None) is None, "tensors were left over"


CLOSE = dict(rtol=1e-4, atol=1e-4)


class TestIsTheNetworkOfThePaper:
    @pytest.fixture(autouse=True)
    def no_grad(self):
        with torch.no_grad():
            yield

    @staticmethod
    def image(size=32):
        return torch.randn(1, 3, size, size)

    def test_vgg_att(self):
        x, ours = self.image(), shake(net("VGGAtt", levels=(1, 2, 3))).eval()
        naive = Naive(ours)
        l1 = naive.vgg(x, 7)
        l2 = naive.vgg(F.max_pool2d(l1, 2), 3)
        l3 = naive.vgg(F.max_pool2d(l2, 2), 3)
        wanted = (l1, l2, l3, naive.query(l3))
        naive.done()
        assert [y.shape[1:] for y in wanted] == [(256, 32, 32), (512, 16, 16), (512, 8, 8), (512,)]
        for have, want in zip(ours(x), wanted, strict=True):
            torch.testing.assert_close(have, want, **CLOSE)
        for levels in ((3,), (2, 3)):
            ours.levels = levels
            for have, want in zip(ours(x), wanted[levels[0] - 1 :], strict=True):
                torch.testing.assert_close(have, want, **CLOSE)

    def test_vgg_att_of_birds_takes_the_weights_of_small_images(self):
        small = shake(net("VGGAtt", levels=(1, 2, 3)))
        large = net("VGGAtt", levels=(1, 2, 3), first_pool=5).eval()
        large.load_state_dict(small.state_dict(), strict=True)
        x, naive = self.image(80), Naive(small)
        l1 = naive.vgg(x, 7)
        l2 = naive.vgg(F.max_pool2d(l1, 5), 3)
        l3 = naive.vgg(F.max_pool2d(l2, 2), 3)
        # Windows of 80 / 32 = 2.5 pixels, both ends rounded outwards.
        starts = [(math.floor(2.5 * i), math.ceil(2.5 * (i + 1))) for i in range(32)]
        rows = torch.stack([l1[:, :, a:b].amax(2) for a, b in starts], 2)
        pooled = torch.stack([rows[..., a:b].amax(3) for a, b in starts], 3)
        wanted = (pooled, l2, l3, naive.query(l3))
        assert [y.shape[1:] for y in wanted] == [(256, 32, 32), (512, 16, 16), (512, 8, 8), (512,)]
        for have, want in zip(large(x), wanted, strict=True):
            torch.testing.assert_close(have, want, **CLOSE)
        assert torch.equal(F.max_pool2d(pooled, 2), F.max_pool2d(l1, 5)), "either leads to the same l2"
        assert torch.equal(pooled, F.adaptive_max_pool2d(l1, 32))
        with pytest.raises(ValueError, match=r"sizes divisible by 5, got \(30, 32\)"):
            large(torch.zeros(1, 3, 30, 32))

    def test_vgg(self):
        x, ours = self.image(), shake(net("VGG")).eval()
        naive, y = Naive(ours), x
        for count in (2, 2, 3, 3, 3):
            y = F.max_pool2d(naive.vgg(y, count), 2)
        want = naive.norm(naive.linear(y.flatten(1)), 1e-5).relu()
        naive.done()
        (have,) = ours(x)
        torch.testing.assert_close(have, want, **CLOSE)

    def test_vgg_gap(self):
        x, ours = self.image(), shake(net("VGGGAP")).eval()
        naive = Naive(ours)
        l2 = naive.vgg(F.max_pool2d(naive.vgg(x, 7), 2), 3)
        want = naive.vgg(F.max_pool2d(l2, 2), 3)
        naive.done()
        (have,) = ours(x)
        assert have.shape == (1, 512, 8, 8)
        torch.testing.assert_close(have, want, **CLOSE)

    def test_vgg_pan(self):
        x, ours = self.image(), shake(net("VGGPAN")).eval()
        naive = Naive(ours)
        # The tensors come group by group, then the gate's: l3 needs them sooner.
        l2 = naive.vgg(F.max_pool2d(naive.vgg(x, 7), 2), 3)
        last_group = Naive(ours.groups[4])
        naive.take(3 * 6)
        g = naive.query(l2, first_pool=4)
        u, bias = naive.take(2)
        gate = (((l2 + g[..., None, None]) * u).sum(1, keepdim=True) + bias).sigmoid()
        l3 = last_group.vgg(F.max_pool2d(l2 * gate, 2), 3)
        wanted = (l3, naive.query(l3))
        naive.done()
        for have, want in zip(ours(x), wanted, strict=True):
            torch.testing.assert_close(have, want, **CLOSE)
        with record_attention(ours) as maps:
            ours(x)
        assert [item.kind for item in maps] == [GATE]
        torch.testing.assert_close(maps[0].values, gate, **CLOSE)
        assert net("VGGPAN", first_pool=5).eval()(self.image(80))[0].shape == (1, 512, 8, 8)

    def test_preact_resnet(self):
        x, ours = self.image(), shake(net("PreActResNet", depth=20, levels=(1, 2, 3))).eval()
        naive = Naive(ours)
        y, maps = naive.conv(x), []
        for stride in (1, 2, 2):
            for block in range(2):
                y = naive.bottleneck(y, 1 if block else stride, widens=not block)
            maps.append(y)
        last = naive.norm(y, 1e-5).relu()
        query = naive.norm(naive.conv(F.max_pool2d(last, 2), bias=True), 1e-5).relu()
        wanted = (*maps, naive.linear(F.max_pool2d(query, 4).flatten(1)))
        naive.done()
        assert [y.shape[1:] for y in wanted] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (256,)]
        for have, want in zip(ours(x), wanted, strict=True):
            torch.testing.assert_close(have, want, **CLOSE)
        baseline = net("PreActResNet", depth=20).eval()
        assert not baseline.load_state_dict(ours.state_dict(), strict=False).missing_keys
        (have,) = baseline(x)
        torch.testing.assert_close(have, last, **CLOSE)


class TestTrainingDetails:
    def rates(self, module):
        return [m.p for m in module.modules() if isinstance(m, nn.Dropout)]

    def test_dropout(self):
        with torch.device("meta"):
            assert self.rates(net("VGGAtt")) == [0.3, *[0.4] * 7, 0.4, 0.4, 0.5]
            assert self.rates(net("VGG")) == [0.3, *[0.4] * 7, 0.5, 0.5]
            assert self.rates(MODELS.build(attended([256, 512, 512]))) == [0.5] * 4
            assert self.rates(net("PreActResNet", levels=(3,))) == [0, 0]
            assert self.rates(net("PreActResNet", levels=(3,), dropout=(0.4, 0.5))) == [0.4, 0.5]

    def test_convolutions_start_kaiming_normal_over_their_outputs(self):
        torch.manual_seed(0)
        for built in (net("VGGGAP"), net("PreActResNet", depth=20, levels=(3,))):
            built.init_weights()
            convs = [m for m in built.modules() if isinstance(m, nn.Conv2d)]
            for conv in convs:
                wanted = math.sqrt(2 / (conv.out_channels * conv.kernel_size[0] ** 2))
                assert conv.weight.std().item() == pytest.approx(wanted, rel=0.15)
                assert conv.bias is None or not conv.bias.any()


def classifier(backbone, head, neck=None):
    model = dict(
        type="ImageClassifier",
        backbone=backbone,
        neck=neck,
        head=head,
        data_preprocessor=dict(type="ClsDataPreprocessor"),
    )
    # Another framework's, left by another test, would give the head its own loss.
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return MODELS.build(model)


def samples(*labels):
    from mmpretrain.structures import DataSample

    return [DataSample().set_gt_label(label) for label in labels]


GAP = dict(type="mmpretrain.GlobalAveragePooling")
SMALL_RN = dict(type="attn_mm.PreActResNet", depth=11, levels=(2, 3), dropout=(0.4, 0.5))
SMALL_HEAD = attended([128, 256], 256)


class TestInMMPretrain:
    @pytest.mark.parametrize(
        "backbone, neck, head",
        [
            (dict(type="attn_mm.VGG"), None, linear(512)),
            (VGG_ATT3, None, attended([256, 512, 512], compatibility="dp")),
            (dict(type="attn_mm.VGGPAN"), None, attended([512])),
            (dict(RN, depth=20), GAP, linear(256)),
            (SMALL_RN, None, SMALL_HEAD),
            (SMALL_RN, None, dict(SMALL_HEAD, combine="indep", compatibility="dp")),
        ],
        ids=["VGG", "VGG-att3-dp", "VGG-PAN", "RN", "RN-att2", "RN-att2-indep-dp"],
    )
    def test_every_parameter_learns(self, backbone, neck, head):
        model = classifier(backbone, head, neck)
        loss = model(torch.randn(2, 3, 32, 32), samples(1, 7), mode="loss")["loss"]
        loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name

    def test_only_the_dot_product_teaches_the_query(self):
        learnt = {}
        for compatibility in ("dp", "pc"):
            torch.manual_seed(0)
            model = classifier(SMALL_RN, dict(SMALL_HEAD, compatibility=compatibility)).double()
            model(torch.randn(2, 3, 32, 32).double(), samples(1, 7), mode="loss")["loss"].backward()
            learnt[compatibility] = model.backbone.query.linear.weight.grad.abs().max()
        assert learnt["dp"] > 1e-8 > 1e-12 > learnt["pc"]

    def test_predicts(self):
        model = classifier(SMALL_RN, SMALL_HEAD).eval()
        x = torch.randn(2, 3, 32, 32)
        predictions = model(x, samples(1, 7), mode="predict")
        scores = model(x)
        assert scores.shape == (2, 10)
        for prediction, score in zip(predictions, scores, strict=True):
            torch.testing.assert_close(prediction.pred_score, score.softmax(0))
            assert prediction.pred_label.item() == score.argmax().item()

    def test_any_staged_backbone_serves(self):
        backbone = dict(type="mmpretrain.ResNet_CIFAR", depth=18, out_indices=(1, 2, 3), base_channels=8)
        backbone.update(stem_channels=8)
        model = classifier(backbone, attended([16, 32], 64, compatibility="dp"))
        model(torch.randn(2, 3, 32, 32), samples(1, 7), mode="loss")["loss"].backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        feats = model.eval().extract_feat(torch.randn(2, 3, 32, 32))
        *maps, last = feats
        want = model.head.attend(maps, last.mean((-2, -1)))[1]
        for have, expected in zip(model.head.attention_maps(feats), want, strict=True):
            torch.testing.assert_close(have, expected)


class TestHead:
    @staticmethod
    def feats(dtype=torch.float64):
        return (
            torch.randn(3, 4, 5, 7, dtype=dtype),
            torch.randn(3, 6, 2, 3, dtype=dtype),
            torch.randn(3, 6, dtype=dtype),
        )

    @staticmethod
    def head(**options):
        return shake(MODELS.build(attended([4, 6], 6, classes=5, **options)).double())

    @staticmethod
    def naive_features(head, feats, compatibility):
        """What reaches the classifiers in eval mode, level by level, by sections 3 and 4."""

        def activate(x, norm):
            x = (x - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
            return (norm.weight * x + norm.bias).relu()

        *maps, g = feats
        norm, _, _, to_four = head.projections["4"]
        queries = [activate(g, norm) @ to_four.weight.T + to_four.bias, g]
        for index, (local, query) in enumerate(zip(maps, queries)):
            query = query[..., None, None]
            if compatibility == "pc":
                u = head.attentions[index].compatibility.u
                scores = ((local + query) * u.weight).sum(1) + u.bias
            else:
                scores = (local * query).sum(1)
            attention = scores.exp() / scores.exp().sum((1, 2), keepdim=True)
            yield activate((attention[:, None] * local).sum((2, 3)), head.activations[index][0])

    @pytest.mark.parametrize("compatibility", ["pc", "dp"])
    def test_concat_is_one_classifier_of_all_levels(self, compatibility):
        head, feats = self.head(compatibility=compatibility).eval(), self.feats()
        features = torch.cat(list(self.naive_features(head, feats, compatibility)), 1)
        torch.testing.assert_close(head.pre_logits(feats), features, rtol=1e-12, atol=1e-12)
        (classify,) = head.classifiers
        want = features @ classify.weight.T + classify.bias
        torch.testing.assert_close(head(feats), want, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("compatibility", ["pc", "dp"])
    def test_indep_averages_probabilities(self, compatibility):
        head, feats = self.head(compatibility=compatibility, combine="indep").eval(), self.feats()
        average = 0
        for classify, features in zip(head.classifiers, self.naive_features(head, feats, compatibility)):
            exponentials = (features @ classify.weight.T + classify.bias).exp()
            average = average + exponentials / exponentials.sum(1, keepdim=True) / 2
        torch.testing.assert_close(head(feats).exp(), average, rtol=1e-12, atol=1e-12)
        predictions = head.predict(feats)
        for prediction, want in zip(predictions, average, strict=True):
            torch.testing.assert_close(prediction.pred_score, want, rtol=1e-12, atol=1e-12)
            assert prediction.pred_label.item() == want.argmax().item()
        loss = head.loss(feats, samples(0, 3, 4))["loss"]
        want = -average[range(3), [0, 3, 4]].log().mean()
        torch.testing.assert_close(loss, want, rtol=1e-12, atol=1e-12)

    def test_its_loss_is_mmpretrains_in_any_scope(self):
        with DefaultScope.overwrite_default_scope("mmengine"):
            assert type(self.head().loss_module).__module__.startswith("mmpretrain.")

    def test_levels_of_one_width_share_its_projection(self):
        head = MODELS.build(attended([4, 4, 6], 6))
        assert list(head.projections) == ["4"]
        assert not MODELS.build(attended([6, 6], 6)).projections

    def test_the_query_of_another_image(self):
        head, (*maps, g) = self.head(compatibility="dp").eval(), self.feats()
        own, other = head.attend(maps, g)[1], head.attend(maps, g.flip(0))[1]
        for a, b in zip(own, other, strict=True):
            torch.testing.assert_close(a.sum((-2, -1)), torch.ones_like(a[..., 0, 0]))
            assert not torch.allclose(a[0], b[0]) and torch.allclose(a[1], b[1])

    def test_copies_pickles_and_loads(self):
        head, feats = self.head(combine="indep").eval(), self.feats()
        other = self.head(combine="indep").eval()
        other.load_state_dict(head.state_dict())
        for twin in (copy.deepcopy(head), pickle.loads(pickle.dumps(head)), other):
            assert torch.equal(twin(feats), head(feats))

    def test_options_of_mmpretrains_heads(self):
        head = self.head(cal_acc=True, loss=dict(type="mmpretrain.LabelSmoothLoss", label_smooth_val=0.1))
        losses = head.loss(self.feats(), samples(0, 3, 4))
        assert losses.keys() == {"loss", "accuracy_top-1"}


@pytest.mark.parametrize(
    "config, message",
    [
        (dict(type="attn_mm.VGGAtt", levels=()), "levels must be an ascending choice of 1, 2 and 3"),
        (dict(type="attn_mm.VGGAtt", levels=(3, 2)), "levels must be an ascending choice of 1, 2 and 3"),
        (dict(type="attn_mm.VGGAtt", levels=(3, 4)), "levels must be an ascending choice of 1, 2 and 3"),
        (dict(type="attn_mm.VGGAtt", first_pool=3), r"first_pool must be 2 .* or 5 .*, got 3"),
        (dict(type="attn_mm.VGG", width=0), "width must be a whole number of at least 1, got 0"),
        (dict(type="attn_mm.VGGAtt", width=2.5), "width must be a whole number of at least 1, got 2.5"),
        (dict(type="attn_mm.VGGGAP", width="64"), "width must be a whole number of at least 1, got '64'"),
        (dict(type="attn_mm.VGGPAN", width=True), "width must be a whole number of at least 1, got True"),
        (dict(type="attn_mm.PreActResNet", depth=50), "depth must be 9 n \\+ 2 .*, got 50"),
        (dict(type="attn_mm.PreActResNet", depth=2), "depth must be 9 n \\+ 2 .*, got 2"),
        (dict(type="attn_mm.PreActResNet", depth=11, levels=(0,)), "levels must be an ascending choice"),
        (attended([], 6), "local_channels must name at least one level"),
        (attended([6], 6, combine="sum"), "combine must be 'concat' or 'indep', got 'sum'"),
        (attended([6], 6, compatibility="sum"), "compatibility must be 'pc' or 'dp', got 'sum'"),
    ],
)
def test_refuses(config, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        MODELS.build(config)


def test_refuses_features_that_are_not_its_levels():
    head = MODELS.build(attended([4], 6))
    with pytest.raises(ValueError, match="1 levels require one map each and then the global feature, got 1"):
        head((torch.zeros(2, 4, 3, 3),))
