"""The protocols of ``--steps`` on a network whose steps disagree, against direct computation."""

from __future__ import annotations

import json
from functools import cache

import cv2
import numpy as np
import pytest
import small
import torch
from mmengine.config import Config

from attn_mm.frameworks.loading import load_model
from attn_mm.graft.early_stop import stopped_after
from attn_mm.papers.td import localise, resolution_sweep, step_confidence
from attn_mm.run import test
from attn_mm.utils.config import load_config

pytest.importorskip("mmpretrain")
pytest.importorskip("pytorch_grad_cam")

CLASSES, IMAGES, SIDE, STEPS = tuple("abcdefg"), 14, 32, 3
SEED = 20  # every step is the most confident one of some image
TD = dict(type="attn_mm.TD", mode="joint", steps=STEPS, reduction=8)


def config(root, kind="ImageClassifier", grafts=(TD,)) -> Config:
    """A small classifier in the form of the repo's own for ImageNet."""
    cfg = load_config("configs/td/r18_plain_125e_in1k.py")
    net = dict(type="ResNet_CIFAR", depth=18, stem_channels=8, base_channels=8)
    cfg.model = dict(
        type=kind,
        backbone=dict(type="attn_mm.AttnBackbone", backbone=net, grafts=list(grafts)) if grafts else net,
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", in_channels=64, num_classes=len(CLASSES)),
    )
    cfg.data_preprocessor.update(num_classes=len(CLASSES), mean=[120.0] * 3, std=[60.0] * 3)
    loader = cfg.test_dataloader
    loader.update(batch_size=8, num_workers=0, persistent_workers=False)
    loader.dataset = dict(
        type="CustomDataset",
        data_root=str(root / "images"),
        metainfo=dict(classes=CLASSES),
        pipeline=[dict(type="LoadImageFromFile"), dict(type="PackInputs")],
    )
    cfg.val_dataloader = loader
    cfg.test_evaluator = dict(type="Accuracy", topk=(1, 3))
    return cfg


PICTURES = [small.picture(SIDE, SIDE, seed=number) for number in range(IMAGES)]


def as_inputs(pictures) -> torch.Tensor:
    """The pictures as the network gets them."""
    pixels = np.stack([picture[..., ::-1] for picture in pictures]).astype(float)
    return torch.tensor((pixels - 120) / 60).permute(0, 3, 1, 2)


@torch.no_grad()
def with_opinions(model) -> list[int]:
    """Give a network weights by which its steps disagree; what a step predicts for each image, in turn."""
    torch.manual_seed(SEED)
    for norm in model.backbone.layer4.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(norm.weight, std=2)
            torch.nn.init.normal_(norm.bias)
    inputs = as_inputs(PICTURES).float()
    model.train()
    for _ in range(20):
        model(inputs)
    model.eval()
    features = []
    for step in range(1, STEPS + 1):
        with stopped_after(model, step):
            features.append(model.backbone(inputs)[-1].mean((2, 3)))
    torch.nn.init.normal_(model.head.fc.weight, std=0.3)
    # No class is the most likely one of every image.
    model.head.fc.bias.copy_(-model.head.fc.weight @ torch.cat(features).mean(0))
    found = [model.head((of_step,)).argmax(1).tolist() for of_step in features]
    return [found[image % STEPS][image] for image in range(IMAGES)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Images of seven classes, and a network that has other opinions at each of its steps."""
    root = tmp_path_factory.mktemp("steps")
    cfg = config(root)
    model = load_model(cfg, small.save_weights(cfg, root / "td.pth"), "cpu")
    labels = with_opinions(model)
    for name in CLASSES:
        (root / "images" / name).mkdir(parents=True)
    for number, label in enumerate(labels):
        assert cv2.imwrite(str(root / "images" / CLASSES[label] / f"{number:02d}.png"), PICTURES[number])
    small.dump(cfg, root / "td.py")
    small.dump(config(root, "attn_mm.ConfidentStep"), root / "confident.py")
    small.dump(config(root, grafts=()), root / "plain.py")
    weights = model.state_dict()
    torch.save({"state_dict": weights}, root / "td.pth")
    torch.save({"state_dict": {k: v for k, v in weights.items() if ".td." not in k}}, root / "plain.pth")
    return root


def box(heat: torch.Tensor) -> tuple[int, int, int, int] | None:
    """The box of the largest segment above 15 %, found by spreading labels until nothing changes."""
    large = torch.nn.functional.interpolate(heat[None, None], size=(SIDE, SIDE), mode="bilinear")
    heat = large[0, 0].numpy()
    if heat.max() <= 0:
        return None
    hot = heat >= 0.15 * heat.max()
    names = np.where(hot, np.arange(1, hot.size + 1).reshape(hot.shape), 0)
    while True:
        padded = np.pad(names, 1)
        near = [padded[y : y + SIDE, x : x + SIDE] for y in range(3) for x in range(3)]
        spread = np.where(hot, np.max(near, axis=0), 0)
        if np.array_equal(spread, names):
            break
        names = spread
    kinds, sizes = np.unique(names[names > 0], return_counts=True)
    ys, xs = np.nonzero(names == kinds[sizes.argmax()])
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def overlap(one, other) -> float:
    masks = np.zeros((2, SIDE, SIDE), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, (one, other)):
        mask[y1:y2, x1:x2] = True
    return (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()


class Opinions:
    """What the network predicts for each image at each step, and where it looks, computed directly.

    With pooling and a linear layer, Grad-CAM's weights are the classifier's (section 3.1 of its paper).
    """

    @torch.no_grad()
    def __init__(self, root) -> None:
        model = load_model(config(root), str(root / "td.pth"), "cpu").double()
        paths = sorted((root / "images").rglob("*.png"))
        inputs = as_inputs([cv2.imread(str(path)) for path in paths])
        self.labels = [CLASSES.index(path.parent.name) for path in paths]
        self.weight, self.features, self.scores = model.head.fc.weight.detach(), [], []
        self.box = cache(self.uncached_box)
        for step in range(1, STEPS + 1):
            with stopped_after(model, step):
                features = model.backbone(inputs)[-1]
            self.features.append(features)
            self.scores.append(model.head((features.mean((2, 3)),)).softmax(1))

    def uncached_box(self, image: int, step: int, label: int):
        heat = (self.weight[label][:, None, None] * self.features[step][image]).sum(0)
        return box(heat.clamp_min(0))

    def best(self, image: int, step: int, k: int) -> list[int]:
        return self.scores[step][image].topk(k).indices.tolist()

    def by_confidence(self, image: int) -> list[int]:
        return sorted(range(STEPS), key=lambda step: -self.scores[step][image].max().item())

    def kept(self, image: int, steps: str) -> list[int]:
        if steps == "last":
            return [STEPS - 1]
        order = self.by_confidence(image)
        if steps == "confident":
            return order[:1]
        boxes = {step: self.box(image, step, self.best(image, step, 1)[0]) for step in order}
        kept = order[:1]
        for step in order[1:]:
            others = [boxes[each] for each in kept if boxes[each]]
            if boxes[step] and all(overlap(boxes[step], each) < 0.5 for each in others):
                kept.append(step)
        return kept

    def accuracy(self, steps: str, k: int) -> float:
        right = [
            any(label in self.best(image, step, k) for step in self.kept(image, steps))
            for image, label in enumerate(self.labels)
        ]
        return float(np.mean(right))


@pytest.fixture(scope="module")
def opinions(root) -> Opinions:
    return Opinions(root)


def test_the_protocols_differ_on_this_network(opinions):
    found = {steps: opinions.accuracy(steps, 1) for steps in ("last", "confident", "any")}
    assert len(set(found.values())) == 3, found
    assert {len(opinions.kept(image, "any")) for image in range(IMAGES)} >= {1, 2}


@pytest.mark.parametrize(
    ("name", "flag", "steps"),
    [
        ("td", None, "last"),
        ("td", "confident", "confident"),
        ("td", "any", "any"),
        ("confident", None, "confident"),
        ("confident", "last", "last"),
    ],
)
def test_a_test_counts_by_its_protocol_and_says_it(name, flag, steps, root, opinions, tmp_path, capsys):
    flags = ["--steps", flag] if flag else []
    kind = "attn_mm.ConfidentStep" if name == "confident" else "ImageClassifier"
    path = small.dump_numbered(config(root, kind), tmp_path)
    test.main([path, str(root / "td.pth"), "--work-dir", str(tmp_path), *flags])
    record = json.loads((tmp_path / "test_results.json").read_text())
    assert record["steps"] == steps
    assert record["metrics"]["accuracy/top1"] == pytest.approx(100 * opinions.accuracy(steps, 1))
    assert record["metrics"]["accuracy/top3"] == pytest.approx(100 * opinions.accuracy(steps, 3))
    assert f"steps: {steps} (" in capsys.readouterr().out


def test_a_sweep_and_the_steps_own_tool_count_the_same(root, opinions, tmp_path, capsys):
    pairs = [str(root / name) for name in ("td.py", "td.pth", "plain.py", "plain.pth")]
    flags = ["--sizes", "32", "--num-workers", "0", "--device", "cpu", "--out", str(tmp_path)]
    resolution_sweep.main([*pairs, *flags, "--steps", "any"])
    td, plain = json.loads((tmp_path / "resolution_sweep.json").read_text())["networks"]
    assert (td["steps"], plain["steps"]) == ("any", None)
    assert td["sizes"]["32"]["top1"] == pytest.approx(opinions.accuracy("any", 1))
    assert td["sizes"]["32"]["top5"] == pytest.approx(opinions.accuracy("any", 5))
    assert "| td      | any   |" in capsys.readouterr().out
    step_confidence.main([*pairs[:2], *flags[2:], "--pictures", "0"])
    found = json.loads((tmp_path / "step_confidence.json").read_text())
    for steps in ("last", "confident", "any"):
        assert found["accuracy"][steps]["top1"] == pytest.approx(opinions.accuracy(steps, 1))
        assert found["accuracy"][steps]["top5"] == pytest.approx(opinions.accuracy(steps, 5))
    kept = [len(opinions.kept(image, "any")) for image in range(IMAGES)]
    assert found["guesses"] == pytest.approx(np.mean(kept))


def write_boxes(folder, root) -> str:
    folder.mkdir()
    sides = "<xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>20</ymax>"
    for path in (root / "images").rglob("*.png"):
        (folder / f"{path.stem}.xml").write_text(
            f"<annotation><object><name>n00000000</name><bndbox>{sides}</bndbox></object></annotation>"
        )
    return str(folder)


@pytest.mark.parametrize(("name", "flag", "steps"), [("confident", None, "confident"), ("td", "any", "any")])
def test_boxes_are_those_of_the_steps_that_count(name, flag, steps, root, opinions, tmp_path, capsys):
    flags = ["--steps", flag] if flag else []
    weights, boxes = str(root / "td.pth"), write_boxes(tmp_path / "xml", root)
    flags += ["--out", str(tmp_path), "--device", "cpu", "--pictures", "1", "--boxes", boxes]
    localise.main([str(root / f"{name}.py"), weights, *flags])
    record = json.loads((tmp_path / "localise.json").read_text())
    assert record["steps"] == steps and f"steps: {steps} (" in capsys.readouterr().out
    top1_loc = []
    for image, (label, found) in enumerate(zip(opinions.labels, record["images"])):
        kept = opinions.kept(image, steps)
        assert [guess["step"] - 1 for guess in found["guesses"]] == kept
        hits = []
        for step, guess in zip(kept, found["guesses"]):
            best = opinions.best(image, step, 1)[0]
            assert guess["ranked"] == opinions.best(image, step, 5)
            for each in (label, best):
                expected = opinions.box(image, step, each)
                assert guess["boxes"][str(each)] == (None if expected is None else list(expected))
            own = opinions.box(image, step, label)
            hits.append(best == label and own is not None and overlap(own, (0, 0, 20, 20)) >= 0.5)
        top1_loc.append(any(hits))
    assert record["metrics"]["top1_loc"] == pytest.approx(np.mean(top1_loc))
    assert {opinions.by_confidence(image)[0] for image in range(IMAGES)} == set(range(STEPS))


def test_a_map_without_gradient_is_an_error_that_names_it(root, tmp_path, capsys):
    flags = ["--out", str(tmp_path), "--device", "cpu", "--boxes", write_boxes(tmp_path / "xml", root)]
    pair = [str(root / "td.py"), str(root / "td.pth"), *flags]

    def complaint(*more) -> str:
        with pytest.raises(SystemExit, match="2"):
            localise.main([*pair, *more])
        return capsys.readouterr().err.splitlines()[-1]

    # In evaluation no score depends on the stage's first norm's output where its weight is 0.
    content = torch.load(root / "td.pth")
    content["state_dict"]["head.fc.weight"].zero_()
    torch.save(content, tmp_path / "zero.pth")
    pair[1] = str(tmp_path / "zero.pth")
    said = complaint()
    assert ".png: the score of 'a' doesn't depend on --layer layer4 at step 3" in said
    pair[1] = str(root / "td.pth")
    assert "--layer layer4 step 3: at step" in complaint("--layer", "layer4 step 3", "--steps", "confident")


def test_what_has_no_steps_is_refused(root, tmp_path, capsys):
    plain, td = [[str(root / f"{name}.py"), str(root / f"{name}.pth")] for name in ("plain", "td")]
    out = ["--out", str(tmp_path), "--device", "cpu"]

    def complaint(main, *arguments) -> str:
        with pytest.raises(SystemExit, match="2"):
            main([*arguments, "--steps", "any"])
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(line) < 200
        return line

    work = ["--work-dir", str(tmp_path)]
    assert "plain.py has no steps: leave --steps out, or use" in complaint(test.main, *plain, *work)
    assert "plain.py has no steps" in complaint(localise.main, *plain, *out)
    assert "no network has steps" in complaint(resolution_sweep.main, *plain, *out)
    assert "use it without --tta" in complaint(test.main, *td, "--tta", *work)
    with pytest.raises(SystemExit, match="2"):
        test.main([str(root / "confident.py"), td[1], "--tta", *work])
    assert "--steps confident evaluates one view of each image" in capsys.readouterr().err
    several = config(root)
    several.model.head.type = "MultiLabelLinearClsHead"
    path = small.dump(several, tmp_path / "several.py")
    assert "predicts several classes per image" in complaint(test.main, path, td[1], *work)
    fcos = "configs/tdaf/fcos-r50_plain_coco.py"
    assert "--steps needs an mmpretrain classifier" in complaint(test.main, fcos, td[1], *work)
