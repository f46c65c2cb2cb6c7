"""``tools/gates.py`` on small networks: whole runs, held to what the networks do without the tool."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import cv2
import pytest
import small
import torch
from mmengine.registry import DATASETS, MODELS, DefaultScope

from attn_mm.datasets.generated.shapes import CLASSES
from attn_mm.errors import UserError
from attn_mm.frameworks.demo import to_demo
from attn_mm.papers.tam import gates
from attn_mm.run.evaluation import Evaluation
from attn_mm.utils.config import load_config
from attn_mm.utils.progress import progress_bar

pytest.importorskip("mmpretrain")
pytest.importorskip("matplotlib")
pytestmark = pytest.mark.usefixtures("small_demos")

WIDTH = 4


@pytest.fixture(scope="module")
def plain(repo):
    cfg = load_config(str(repo / "configs/tam/r18_plain_300e_cifar10.py"))
    cfg.model.backbone.update(stem_channels=WIDTH, base_channels=WIDTH)
    cfg.model.head.in_channels = 8 * WIDTH
    return cfg


@pytest.fixture
def config(plain, tmp_path):
    """Writes the config of a small network with a graft; returns its path."""

    def write(graft=None):
        cfg = copy.deepcopy(plain)
        if graft:
            cfg.model.backbone = dict(
                type="attn_mm.AttnBackbone", backbone=cfg.model.backbone, grafts=[graft]
            )
        return small.dump_numbered(cfg, tmp_path)

    return write


@pytest.fixture
def checkpoint(tmp_path):
    """Random weights with which images, slopes and gates make a difference; returns their path."""

    def save(config, prepare=demo):
        model = build(prepare(config))
        for module in model.modules():
            if isinstance(module, torch.nn.PReLU):
                torch.nn.init.uniform_(module.weight, 0, 2)
            elif isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
                torch.nn.init.normal_(module.weight, std=0.5)
            elif isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            features = model.train().extract_feat(held_out(config)[0])[-1]
            model.head.fc.bias.copy_(-(model.head.fc.weight @ features.mean(0)))
        path = Path(config).with_suffix(".pth")
        meta = {"dataset_meta": {"classes": CLASSES}}
        torch.save({"state_dict": model.state_dict(), "meta": meta}, path)
        return str(path)

    return save


def demo(config):
    cfg = load_config(config)
    to_demo(cfg)
    return cfg


def build(cfg):
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return MODELS.build(cfg.model).eval()


def held_out(config):
    """The images of a config's demo, normalized, and their labels."""
    cfg = demo(config)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        samples = list(DATASETS.build(cfg.test_dataloader.dataset))
    mean, std = (torch.tensor(cfg.data_preprocessor[key])[:, None, None] for key in ("mean", "std"))
    images = torch.stack([(sample["inputs"].flip(0) - mean) / std for sample in samples])
    return images, torch.cat([sample["data_samples"].gt_label for sample in samples])


def run(analysis, *arguments, work):
    gates.main([analysis, *map(str, arguments), "--demo", "--work-dir", str(work), "--device", "cpu"])
    for suffix in ("png", "svg"):
        assert (work / f"{analysis}.{suffix}").stat().st_size > 1000
    assert not list(work.glob("*.partial"))
    return json.loads((work / f"{analysis}.json").read_text())


def top1(config, checkpoint, change=lambda model: None, number=6):
    """The share in per cent of the first held-out images that the model gets right."""
    model = build(demo(config))
    model.load_state_dict(torch.load(checkpoint, weights_only=False)["state_dict"])
    change(model)
    images, labels = held_out(config)
    with torch.no_grad():
        scores = model.head.fc(model.extract_feat(images)[-1])
    return 100 * sum(int(s.argmax() == label) for s, label in zip(scores[:number], labels)) / number


def test_lesion_of_a_demo(config, tmp_path, monkeypatch, capsys):
    """Trained, evaluated with each gate in turn, interrupted and continued."""
    path, work = config(dict(type="attn_mm.TAM")), tmp_path / "work"
    plain_run, passes = Evaluation.run, []

    def interrupted(*args):
        if len(passes) == 4:
            raise KeyboardInterrupt
        passes.append(args)
        return plain_run(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "run", interrupted)
        with pytest.raises(SystemExit) as stopped:
            run("lesion", path, work=work)
    assert stopped.value.code == 130 and "repeat the command to continue" in capsys.readouterr().err
    assert len((work / "lesion.json.partial").read_text().splitlines()) == 1 + 4
    monkeypatch.setattr(Evaluation, "run", lambda *args: passes.append(args) or plain_run(*args))
    record = run("lesion", path, work=work)
    assert len(passes) == 1 + 8
    assert record["checkpoint"] == str(work / "epoch_1.pth")
    assert record["metrics"] == {"accuracy/top1": pytest.approx(top1(path, record["checkpoint"]), rel=1e-5)}
    names = [f"backbone.layer{stage}.{block}.attn.conv2.0" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert [gate["name"] for gate in record["gates"]] == names
    assert [gate["stage"] for gate in record["gates"]] == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("graft", [dict(type="attn_mm.SE", reduction=2), dict(type="attn_mm.TAM")])
def test_lesion(config, checkpoint, tmp_path, graft):
    path = config(dict(graft, stages=(2, 3)))
    weights = checkpoint(path)
    record = run("lesion", path, weights, work=tmp_path / "work")
    assert record["metrics"]["accuracy/top1"] == pytest.approx(top1(path, weights), rel=1e-5)

    def without(name):
        parent, _, last = name.rpartition(".")

        def change(model):
            siblings = model.get_submodule(parent)
            siblings[int(last)] = torch.nn.Identity()

        return change

    expected = [top1(path, weights, without(gate["name"])) for gate in record["gates"]]
    assert [gate["metrics"]["accuracy/top1"] for gate in record["gates"]] == pytest.approx(expected, rel=1e-5)
    assert len(set(expected)) > 1, "gates that matter"


def test_linearise(config, checkpoint, tmp_path):
    path = config(dict(type="attn_mm.TAM"))
    weights = checkpoint(path)
    record = run("linearise", path, weights, "--steps", 3, "--images", 5, work=tmp_path / "work")
    state = torch.load(weights)["state_dict"]
    slopes = {name: value.mean() for name, value in state.items() if re.search(r"tree\.\d*[13579]\.", name)}
    order = sorted(slopes, key=lambda name: abs(slopes[name] - 1))
    assert [f"{layer['name']}.weight" for layer in record["layers"]] == order
    # Of 4, 8, 16 and 32 channels, two blocks each: one PReLU less than levels.
    assert len(order) == 2 * (1 + 2 + 3 + 4)
    assert [point["linear"] for point in record["points"]] == [0, 7, 13, 20]

    def linear(number):
        def change(model):
            for name in order[:number]:
                torch.nn.init.ones_(model.get_parameter(name))

        return change

    expected = [top1(path, weights, linear(number), number=5) for number in (0, 7, 13, 20)]
    assert len(set(expected)) > 1, "slopes that matter"
    found = [point["metrics"]["accuracy/top1"] for point in record["points"]]
    assert found == pytest.approx(expected, rel=1e-5)


def test_scatter(config, checkpoint, tmp_path):
    path = config(dict(type="attn_mm.TD", mode="top"))
    record = run("scatter", path, checkpoint(path), "--images", 4, work=tmp_path / "work")
    assert record["images"] == 4
    assert [gate["type"] for gate in record["gates"]] == ["TopDownAttention"] * 4
    for gate in record["gates"]:
        assert list(gate["parts"]) == ["channels", "positions"]
        for part in gate["parts"].values():
            means, variances = part["sample_mean"], part["sample_variance"]
            assert len(means) == len(variances) == 4
            # Samples of one size: the law of total variance.
            spread = sum((mean - part["mean"]) ** 2 for mean in means)
            assert part["mean"] == pytest.approx(sum(means) / 4, rel=1e-4)
            assert part["variance"] == pytest.approx((sum(variances) + spread) / 4, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize(
    "graft", [None, dict(type="attn_mm.AWConv", convs=("3x3",)), dict(type="attn_mm.TAM")]
)
def test_block_variances(config, graft):
    cfg = load_config(config(graft))
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(cfg.model)
    found = gates.block_variances(model)
    names = [f"backbone.layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert [block["name"] for block in found] == names
    state = model.state_dict()
    for block in found:
        filters = {}
        for conv in ("conv1", "conv2"):
            rows = state[f"{block['name']}.{conv}.weight"].double().flatten(1).tolist()
            means = [sum(row) / len(row) for row in rows]
            filters[conv] = [sum((w - mean) ** 2 for w in row) / len(row) for row, mean in zip(rows, means)]
        convs = {conv: sum(values) / len(values) for conv, values in filters.items()}
        assert block["convs"] == pytest.approx(convs, rel=1e-9)
        every = [*filters["conv1"], *filters["conv2"]]
        assert block["variance"] == pytest.approx(sum(every) / len(every), rel=1e-9)


def test_filters_of_several(config, checkpoint, tmp_path):
    paths = [config(), config(dict(type="attn_mm.TAM"))]
    networks = []
    for name, path in zip(("plain", "tam"), paths):
        (tmp_path / name).mkdir()
        networks += [path, str(Path(checkpoint(path, load_config)).rename(tmp_path / name / "epoch_1.pth"))]
    gates.main(["filters", *networks, "--work-dir", str(tmp_path / "work")])
    record = json.loads((tmp_path / "work" / "filters.json").read_text())
    assert [network["name"] for network in record["networks"]] == [Path(path).stem for path in paths]
    assert (tmp_path / "work" / "filters.png").stat().st_size > 1000


def test_metrics_of_coco(tmp_path):
    """They are computed for each pass anew, and of the whole set alone."""
    pytest.importorskip("mmdet")
    small.write_annotations(tmp_path, small.coco_set(tmp_path))
    cfg = small.detection_config(tmp_path)
    with pytest.raises(UserError, match="are of its whole test set"):
        Evaluation(cfg, images=2)
    test_set = Evaluation(cfg)
    assert test_set.images == 6
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(cfg.model).eval()
    with progress_bar() as progress:
        task = progress.add_task("", total=None)
        first, again = (test_set.run(model, progress, task) for _ in range(2))
    assert first == again and "coco/bbox_mAP" in first
    assert progress.tasks[0].completed == 2 * test_set.batches


def test_labels_are_looked_at_first(config, tmp_path):
    cfg, path, image = load_config(config()), tmp_path / "set.json", str(tmp_path / "1.png")
    cv2.imwrite(image, small.picture())
    cfg.test_dataloader.dataset = dict(
        type="BaseDataset", ann_file=str(path), test_mode=True, pipeline=[dict(type="PackInputs")]
    )
    for label, message in (({}, "1.png has no label"), ({"gt_label": 10}, "1.png has the label 10")):
        path.write_text(json.dumps(dict(metainfo={}, data_list=[dict(img_path=image, **label)])))
        with pytest.raises(UserError, match=message):
            Evaluation(cfg)
    path.write_text("{")
    with pytest.raises(UserError, match=r"set.json can't be read as the annotations of BaseDataset"):
        Evaluation(cfg)


def test_mistakes(config, checkpoint, tmp_path, capsys):
    plain, tam = config(), config(dict(type="attn_mm.TAM"))
    weights = checkpoint(plain)

    def said(*arguments):
        with pytest.raises(SystemExit) as stopped:
            gates.main([*arguments, "--work-dir", str(tmp_path / "work")])
        assert stopped.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    expected = "has no gate: its model needs a layer such as attn_mm's SE, CBAM, ECA, FCA, TAM, TD or AWConv"
    assert f"error: {plain} {expected}" in said("lesion", plain, weights, "--demo")
    assert f"{plain} has no PReLU inside a TAM" in said("linearise", plain, weights, "--demo")
    assert f"{weights} does not fit {tam}: it lacks" in said("scatter", tam, weights, "--demo")
    tams = checkpoint(tam, load_config)
    assert f"{tams} does not fit {plain}: the model lacks" in said("filters", plain, tams)
    assert "give a checkpoint, or --demo to train one" in said("lesion", tam)
    assert "absent.pth does not exist" in said("lesion", tam, "absent.pth")
    assert "is missing: put the data set there" in said(
        "lesion",
        tam,
        checkpoint(tam, load_config),
        "--cfg-options",
        "test_dataloader.dataset.data_root=absent",
    )
    assert "give CONFIG CHECKPOINT for each network, got 3 files" in said("filters", plain, weights, tam)
    twice = ["filters", plain, weights, plain, weights]
    assert "are called" in said(*twice) and "two networks are called a" in said(*twice, "--names", "a", "a")
    assert "argument --images: 0 is not positive" in said("lesion", tam, "--images", "0")
    assert not list((tmp_path / "work").glob("*.json*"))
