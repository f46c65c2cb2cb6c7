"""The benchmark on CIFAR-10: its networks, its command line, its table."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from cifar_runs import advance

from attn_mm.describe.build import build

pytest.importorskip("mmpretrain")


@pytest.fixture
def cifar10(importable):
    from benchmarks import cifar10

    return cifar10


def test_every_attention_adds_to_the_same_network(cifar10):
    counts = {
        net: sum(p.numel() for p in build(cifar10.network(net, 16), "meta").parameters())
        for net in cifar10.GRAFTS
    }
    # A CIFAR ResNet-18 of width w: 9 * 3 * w in the stem; 3x3 pairs; three shortcuts; norms; 10 classes.
    w = 16
    stages = [w, 2 * w, 4 * w, 8 * w]
    convs = 27 * w + sum(9 * c * (before + 3 * c) for before, c in zip([w, *stages], stages))
    shortcuts = sum(before * c for before, c in itertools.pairwise(stages))
    norms = 2 * w + sum(2 * c * (4 + (c > w)) for c in stages)
    plain = convs + shortcuts + norms + 10 * 8 * w + 10
    assert counts.pop("plain") == plain
    assert min(counts.values()) > plain
    assert len(set(counts.values())) == len(counts)
    # r is 4 at this width: in each of the two blocks of a stage two 1x1 layers without bias.
    assert counts["se"] == plain + sum(2 * (2 * c * (c // 4)) for c in stages)


@pytest.mark.parametrize("w", [64, 16])
def test_the_vggs_scale_with_the_width(cifar10, w):
    vgg, attended = (
        sum(p.numel() for p in build(cifar10.network(net, w), "meta").parameters()) for net in cifar10.VGGS
    )
    # 13 convolutions with biases and norms, a linear layer with a norm, and 10 classes.
    widths = [w, w, 2 * w, 2 * w, *[4 * w] * 3, *[8 * w] * 6]
    convs = sum(9 * before * c + 3 * c for before, c in zip([3, *widths], widths))
    last, linear = 8 * w, (8 * w + 1) * 8 * w
    assert vgg == convs + linear + 2 * last + 10 * (last + 1)
    # Two more convolutions, a 1x1 layer to one channel and a norm for each of two levels, 10 classes of both.
    more = 2 * (9 * last * last + 3 * last)
    assert attended == convs + more + linear + 2 * (last + 1 + 2 * last) + 10 * (2 * last + 1)


@pytest.mark.parametrize(("width", "reduction"), [(64, 16), (16, 4), (8, 2), (2, 1)])
def test_the_reduction_scales_with_the_width(cifar10, width, reduction):
    for net in ("se", "cbam", "td"):
        (graft,) = cifar10.network(net, width).model.backbone.grafts
        assert graft.reduction == reduction


def test_the_table_compares_with_the_baseline_over_the_seeds(cifar10):
    figures = {
        "plain": (50.0, 51.0, 52.0),
        "se": (51.0, 53.0, 55.0),
        "tam": (52.0,),
        "vgg": (60.0, 61.0),
        "vgg_att2": (61.0, 64.0),
    }
    runs = {
        f"{net}_{seed}": dict(net=net, seed=seed, parameters=1_234_567, top1=value)
        for net, values in reversed(figures.items())
        for seed, value in enumerate(values)
    }
    table = cifar10.table(cifar10.compared(runs))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert lines[0] == ["network", "parameters", "top-1, mean (std)", "n", "difference", "p"]
    assert lines[2:] == [
        ["plain", "1,234,567", "51.00 (1.00)", "3", "", ""],
        ["se", "1,234,567", "53.00 (2.00)", "3", "+2.00", "0.074"],
        ["tam", "1,234,567", "52.00", "1", "+2.00", ""],
        ["vgg", "1,234,567", "60.50 (0.71)", "2", "", ""],
        # t = 2 with one degree of freedom: p = 1 - 2 atan(2) / pi.
        ["vgg_att2", "1,234,567", "62.50 (2.12)", "2", "+2.00", "0.295"],
    ]


@pytest.fixture
def flags(few_images, tmp_path):
    places = ["--data-root", str(few_images), "--work-dir", str(tmp_path / "out"), "--device", "cpu"]
    return ["plain", "se", *places, "--width", "8", "--epochs", "2"]


def test_trains_stops_continues_and_reports(cifar10, few_images, flags, tmp_path, capsys, monkeypatch):
    save = cifar10.save_state

    def save_and_stop(*args, **more):
        save(*args, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(cifar10, "save_state", save_and_stop)
        cifar10.main([*flags, "--seeds", "1"])
    assert stopped.value.code == 130
    assert "repeat the command to continue" in capsys.readouterr().err
    out = tmp_path / "out"
    assert torch.load(out / "plain_0.pth", weights_only=True)["epoch"] == 1

    cifar10.main([*flags, "--seeds", "1"])
    assert "| se " in capsys.readouterr().out
    record = json.loads((out / "cifar10.json").read_text())
    assert record["about"]["images"] == 20 and record["about"]["test_images"] == 10
    case = record["cases"]["plain_0"]
    assert len(case["losses"]) == 2 and case["seed"] == 0 and 0 <= case["top1"] <= 100 and case["seconds"] > 0
    assert all((out / f"cifar10.{end}").stat().st_size for end in ("md", "png", "svg"))

    # Uninterrupted it ends with the same weights.
    cfg = cifar10.network("plain", 8)
    cifar10.set_data_root(cfg, str(few_images))
    split, _ = cifar10.read_cifar(cfg, out / "cifar10.npz")
    train = cifar10.Batches(split, cfg.data_preprocessor, torch.device("cpu"))
    whole = cifar10.Run("plain", cifar10.initialised("plain", 8, 0), train, 2, 0)
    advance(whole, 2)
    weights = torch.load(out / "plain_0.pth", weights_only=True)["weights"]
    assert all(torch.equal(value, weights[name]) for name, value in whole.state()["weights"].items())
    assert case["losses"] == [round(loss, 5) for loss in whole.losses]

    def trained(*_):
        raise AssertionError("a finished run was trained again")

    with monkeypatch.context() as patch:
        patch.setattr(cifar10, "train_in_turns", trained)
        cifar10.main([*flags, "--seeds", "1"])
    assert json.loads((out / "cifar10.json").read_text())["cases"] == record["cases"]

    with pytest.raises(SystemExit) as refused:
        cifar10.main([*flags, "--epochs", "3", "--images", "10", "--channels-last"])
    assert refused.value.code == 2
    assert (
        "epochs 2, now 3; images 20, now 10; channels_last False, now True; data "
        in capsys.readouterr().err.splitlines()[-1]
    )


@pytest.mark.parametrize(
    ("nets", "changed", "said"),
    [
        (["eca2"], [], "unknown network eca2: expected plain, se, cbam, tam, td, aw, tdaf, vgg, vgg_att2"),
        (["se", "se"], [], "a network is named twice"),
        ([], ["--seeds", "0"], "argument --seeds: 0 is not positive"),
        ([], ["--device", "cuda:99"], "--device cuda:99 can't be used: "),
        ([], ["--device", "gpu"], "--device gpu can't be used: "),
    ],
)
def test_mistakes(cifar10, flags, capsys, nets, changed, said):
    with pytest.raises(SystemExit) as stopped:
        cifar10.main([*nets, *flags, *changed])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_networks_are_tried_before_a_training(cifar10):
    cifar10.check_networks(["vgg_att2", "td"], 64)
    with pytest.raises(cifar10.UserError, match=r"tam in width 1: .*channels must be at least 2, got 1"):
        cifar10.check_networks(["tam"], 1)


def test_numbers_of_images(cifar10):
    cifar10.check_images(256, 256)
    for images, said in ((257, "expected at most 256"), (129, "129 training images leave a batch of one")):
        with pytest.raises(cifar10.UserError, match=said):
            cifar10.check_images(images, 256)
