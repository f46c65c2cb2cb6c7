"""``tools/ltpa.py`` on tiny networks: its figures against naive computations in float64."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import small
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from attn_mm.papers.ltpa import demo, transfer
from attn_mm.papers.ltpa.main import main
from attn_mm.utils.config import load_config

pytest.importorskip("mmpretrain")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
pytest.importorskip("pytorch_grad_cam")

CLASSES = ("ant", "bee", "cat")
MEAN, STD = np.array([120.0, 110.0, 100.0]), np.array([60.0, 55.0, 50.0])
NORMS = (1, 2, 4, 8, 16)
SIZE = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Class folders of five images of several sizes each, with masks in the Object Discovery layout."""
    root = tmp_path_factory.mktemp("data") / "sets"
    for label, name in enumerate(CLASSES):
        (root / name / "GroundTruth").mkdir(parents=True)
        for index in range(5):
            size = (40, 48) if index else (SIZE, SIZE)
            image = small.picture(*size, seed=10 * label + index)
            mask = np.zeros(size, np.uint8)
            # The first has no mask, the second an empty one.
            mask[8 : 8 * index, 10:30] = 255
            cv2.imwrite(str(root / name / f"{index}.png"), image)
            if index:
                cv2.imwrite(str(root / name / "GroundTruth" / f"{index}.png"), mask)
    listed = [f"{path.relative_to(root)} {CLASSES.index(path.parent.name)}" for path in files(root)]
    (root.parent / "list.txt").write_text("\n".join(listed))
    return root


def config(data: Path, net: str) -> Config:
    plain = net == "plain"
    cfg = load_config(f"configs/ltpa/rn164_{'plain' if plain else 'ltpa-att2'}_200e_cifar10.py")
    cfg.model.backbone.depth = 11
    cfg.model.head.num_classes = len(CLASSES)
    if not plain:
        cfg.model.head.compatibility = net
    cfg.data_preprocessor.update(num_classes=len(CLASSES), mean=MEAN.tolist(), std=STD.tolist())
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(SIZE, SIZE)),
        dict(type="PackInputs"),
    ]
    cfg.test_dataloader.dataset = dict(
        type="CustomDataset",
        data_root=str(data),
        ann_file=str(data.parent / "list.txt"),
        metainfo=dict(classes=CLASSES),
        test_mode=True,
        pipeline=pipeline,
    )
    return cfg


@pytest.fixture(scope="module")
def nets(data, tmp_path_factory):
    """Config and checkpoint by name; weights with which predictions differ and attention is far from flat."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmengine.config.config.FormatCode", lambda text, **_: (text, False))
        for name in ("plain", "dp", "pc"):
            cfg, folder = config(data, name), tmp_path_factory.mktemp(name)
            found[name] = small.dump(cfg, folder / f"{name}.py"), str(folder / "weights.pth")
            torch.manual_seed(1)
            model = build(cfg)
            calibrate(model, data)
            torch.save({"state_dict": model.state_dict()}, found[name][1])
    return found


def calibrate(model, data) -> None:
    """Random weights, normalised by what they make of the images, that tell these apart."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.3 if "head" in name else 0.1)
    with torch.no_grad():
        model.train()(normalised(np.stack([shown(p) for p in files(data)])).float(), mode="tensor")


def build(cfg):
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return MODELS.build(cfg.model)


def network(pair):
    model = build(Config.fromfile(pair[0]))
    model.load_state_dict(torch.load(pair[1], weights_only=True)["state_dict"])
    return model.double().eval().requires_grad_(False)


def normalised(pixels: np.ndarray) -> torch.Tensor:
    """BGR (n, h, w, 3) -> what the networks get."""
    return torch.from_numpy((pixels[..., ::-1] - MEAN) / STD).permute(0, 3, 1, 2)


def files(data) -> list[Path]:
    return [path for name in CLASSES for path in sorted((data / name).glob("*.png"))]


def shown(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    method = cv2.INTER_AREA if min(image.shape[:2]) > SIZE else cv2.INTER_LINEAR
    return cv2.resize(image, (SIZE, SIZE), interpolation=method)


def run(out, *args):
    main([*map(str, args), "--out", str(out), "--device", "cpu"])
    return {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}


def failure(capsys, *args) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, args)])
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def naive_fooling(model, image: np.ndarray) -> tuple[int, list[np.ndarray], list[bool]]:
    """The predicted class, the perturbed images and whether they fool, by the loss of Goodfellow et al."""
    inputs = normalised(image[None].astype(np.float64)).requires_grad_()
    scores = model(inputs, mode="tensor")
    label = int(scores[0].argmax())
    (-scores.log_softmax(1)[0, label]).backward()
    # Each channel's std is positive: the sign in pixels is that of the inputs.
    signs = np.sign(inputs.grad[0].permute(1, 2, 0).numpy()[..., ::-1])
    moved = [np.minimum(255, np.maximum(0, image + norm * signs)) for norm in NORMS]
    with torch.no_grad():
        classes = model(normalised(np.stack(moved)), mode="tensor").argmax(1)
    return label, moved, [int(c) != label for c in classes]


def test_fooling_rates(data, nets, out):
    record = run(out, "fool", *nets["plain"], *nets["dp"], "--batch-size", 4, "--pictures", 1)["fooling_rate"]
    assert record["norms"] == list(NORMS) and not list(out.glob("*.partial"))
    images = [cv2.resize(cv2.imread(str(path)), (SIZE, SIZE)) for path in files(data)]
    truths = [label for label in range(len(CLASSES)) for _ in range(5)]
    some = []
    for name, net in zip(("plain", "dp"), record["nets"]):
        results = [naive_fooling(network(nets[name]), image) for image in images]
        rates = np.mean([fooled for *_, fooled in results], axis=0)
        assert net["name"] == name and net["images"] == 15
        np.testing.assert_allclose(list(net["fooling_rate"].values()), rates, atol=1e-5)
        right = np.mean([label == truth for (label, *_), truth in zip(results, truths)])
        assert net["top1"] == pytest.approx(right, abs=1e-5)
        for norm, expected in zip(NORMS, results[0][1]):
            picture = cv2.imread(str(out / "pictures" / name / f"00000_linf{norm:02d}.png"))
            assert np.mean(picture != expected) < 0.05, "more signs differ than rounding can turn"
        some += rates.tolist()
    assert min(some) < max(some), "the same at every norm"
    assert (out / "fooling_rate.png").exists() and (out / "pictures" / "00000.png").exists()


def test_an_interrupted_run_goes_on(nets, out, monkeypatch, capsys):
    from attn_mm.papers.ltpa import fooling

    whole = run(out / "whole", "fool", *nets["dp"], "--batch-size", 4, "--images", 12)
    count, calls = fooling.count, []

    def counting(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return count(*args)

    monkeypatch.setattr(fooling, "count", counting)
    with pytest.raises(SystemExit, match="130"):
        run(out / "torn", "fool", *nets["dp"], "--batch-size", 4, "--images", 12)
    assert run(out / "torn", "fool", *nets["dp"], "--batch-size", 4, "--images", 12) == whole
    assert len(calls) == 4, "what was counted is counted again"


@pytest.mark.filterwarnings("ignore:Liblinear failed to converge")
@pytest.mark.parametrize("whitened", [True, False], ids=["zca", "normalised"])
def test_features_of_other_sets(whitened, data, nets, out, monkeypatch):
    seen = []
    validate = transfer.cross_validate
    monkeypatch.setattr(
        transfer, "cross_validate", lambda x, y: seen.append((x, y.tolist())) or validate(x, y)
    )
    monkeypatch.setattr(transfer, "_MAX_ITERATIONS", 50)
    flags = [] if whitened else ["--no-zca"]
    record = run(out, "transfer", *nets["plain"], *nets["pc"], "--sets", data, "--batch-size", 4, *flags)
    images = np.stack([shown(path) for path in files(data)]).astype(np.float64)
    if whitened:
        flat = images.reshape(15, -1)
        flat = flat - flat.mean(1, keepdims=True)
        flat *= 55 / np.sqrt((flat**2).sum(1, keepdims=True))
        flat -= flat.mean(0)
        _, s, v = np.linalg.svd(flat, full_matrices=False)
        inputs = (flat @ v.T / np.sqrt(s**2 / 15 + 0.1) @ v).reshape(images.shape)
        inputs = torch.from_numpy(inputs[..., ::-1].copy()).permute(0, 3, 1, 2)
    else:
        inputs = normalised(images)
    for name, (vectors, labels) in zip(("plain", "pc"), seen):
        model = network(nets[name])
        with torch.no_grad():
            outputs = model.backbone(inputs)
            if name == "plain":
                expected = outputs[0].mean((2, 3))
            else:
                *maps, global_ = outputs
                attended = model.head.attend(maps, global_)[0]
                expected = torch.cat([act(v) for act, v in zip(model.head.activations, attended)], 1)
        assert labels == [label for label in range(3) for _ in range(5)]
        np.testing.assert_allclose(vectors, expected.numpy(), rtol=1e-3, atol=1e-4)
    accuracies = [net["accuracy"][data.name] for net in record["transfer"]["nets"]]
    for found, (vectors, labels) in zip(accuracies, seen):
        assert found["folds"] == pytest.approx(validate(vectors, np.array(labels)), abs=1e-5)
        assert found["mean"] == pytest.approx(sum(found["folds"]) / 5, abs=1e-5)


def test_cross_validation_holds_out_each_image_once():
    """Each image's features say its class and, beside it, its own number, which a held-out one can't use."""
    labels = np.repeat([0, 1], 20)
    assert transfer.cross_validate(np.c_[labels, np.random.rand(40)], labels) == [1.0] * 5
    assert np.mean(transfer.cross_validate(np.eye(40), labels)) <= 0.5, "the folds overlap"


def naive_attention(model, path: Path, query: Path | None = None) -> list[np.ndarray]:
    """Eq. 1 and 3: each level's softmax over the dot products of local features with g."""
    with torch.no_grad():
        *maps, own = model.backbone(normalised(shown(path)[None].astype(np.float64)))
        global_ = own if query is None else model.backbone(normalised(shown(query)[None].astype(float)))[-1]
    found = []
    for local in maps:
        _, width, height, columns = local.shape
        g = model.head.projections[str(width)](global_) if width != global_.shape[1] else global_
        scores = np.array([[float(local[0, :, y, x] @ g[0]) for x in range(columns)] for y in range(height)])
        found.append(np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum())
    return found


def on_image(attention: np.ndarray, size) -> np.ndarray:
    return F.interpolate(torch.from_numpy(attention)[None, None], size, mode="bilinear", align_corners=False)[
        0, 0
    ].numpy()


def otsu(level):
    grey = np.rint(255 * level).astype(int)
    between = []
    for t in range(255):
        below, above = grey[grey <= t], grey[grey > t]
        balanced = len(below) and len(above)
        between.append(len(below) * len(above) * (below.mean() - above.mean()) ** 2 if balanced else 0)
    return grey > int(np.argmax(between))


def test_segmentation(data, nets, out):
    record = run(out, "segment", *nets["dp"], *nets["plain"], "--data", data)["segmentation"]
    assert record["empty_masks"] == 3 and (out / "segmentation.png").exists()
    attended, cam = (net["jaccard"] for net in record["nets"])
    model = network(nets["dp"])
    for name in CLASSES:
        assert record["files"][name] == [str(data / name / f"{index}.png") for index in (2, 3, 4)]
        for index, found in zip((2, 3, 4), attended[name]["images"]):
            truth = cv2.imread(str(data / name / "GroundTruth" / f"{index}.png"), 0) > 127
            maps = [on_image(a, truth.shape) for a in naive_attention(model, data / name / f"{index}.png")]
            level = np.sqrt(maps[0] * maps[1])
            mask = otsu((level - level.min()) / (level.max() - level.min()))
            expected = (mask & truth).sum() / (mask | truth).sum()
            assert found == pytest.approx(expected, abs=5e-3)
        assert attended[name]["mean"] == pytest.approx(np.mean(attended[name]["images"]), abs=1e-5)
    assert {len(values["images"]) for values in cam.values()} == {3}


def naive_activation(model, path: Path, power: float) -> list[np.ndarray]:
    """Of each map that the backbone returns: the sum over the channels of |A|^p."""
    with torch.no_grad():
        outputs = model.backbone(normalised(shown(path)[None].astype(np.float64)))
    maps = [one[0].numpy() for one in outputs if one.ndim == 4]
    return [sum(np.abs(channel) ** power for channel in one) for one in maps]


def test_segmentation_by_activation(data, nets, out):
    """Zagoruyko & Komodakis' maps beside the attention, each with its own rows."""
    flags = ["--by", "activation", "attention", "--power", "3", "--pictures", "1"]
    record = run(out, "segment", *nets["dp"], "--data", data, *flags)["segmentation"]
    assert record["power"] == 3 and (out / "segmentation.png").exists()
    assert [net["by"] for net in record["nets"]] == ["activation", "attention"]
    activated, attended = (net["jaccard"] for net in record["nets"])
    assert activated != attended
    model = network(nets["dp"])
    for name in CLASSES:
        for index, found in zip((2, 3, 4), activated[name]["images"]):
            truth = cv2.imread(str(data / name / "GroundTruth" / f"{index}.png"), 0) > 127
            level = on_image(naive_activation(model, data / name / f"{index}.png", 3)[-1], truth.shape)
            mask = otsu((level - level.min()) / (level.max() - level.min()))
            assert found == pytest.approx((mask & truth).sum() / (mask | truth).sum(), abs=5e-3)


def test_contrast_of_attention_and_activation(data, nets, out):
    targets = [data / "ant" / "0.png", data / "cat" / "2.png"]
    record = run(out, "contrast", *nets["dp"], *nets["plain"], "--targets", *targets)["contrast"]
    assert record["images"] == [str(path) for path in targets] and record["power"] == 2
    attending, plain = record["nets"]
    for net, pair in ((attending, nets["dp"]), (plain, nets["plain"])):
        assert (out / f"contrast_{net['name']}.png").exists()
        model = network(pair)
        for path, found in zip(targets, net["maps"]):
            attention = naive_attention(model, path) if net is attending else []
            activation = naive_activation(model, path, 2)
            assert len(found) == len(attention) + len(activation)
            for kind, maps in (("attention", attention), ("activation", activation)):
                for place, expected in enumerate(maps, start=1):
                    ours = np.array(found[f"{kind} {place}"])
                    assert np.abs(ours - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def test_grad_cam_takes_the_place_of_attention(data, nets, out):
    """Of averaged features the gradient of a score by the map is the classifier's weight: CAM."""
    from attn_mm.papers.ltpa.nets import open_nets
    from attn_mm.papers.ltpa.segment import attention_segmenter

    (net,) = open_nets(nets["plain"], "cpu")
    path = data / "bee" / "3.png"
    segmenter, how = attention_segmenter(net)
    model = network(nets["plain"])
    with torch.no_grad():
        (maps,) = model.backbone(normalised(shown(path)[None].astype(np.float64)))
        label = int(model.head.fc(maps.mean((2, 3))).argmax())
        cam = torch.einsum("c,chw->hw", model.head.fc.weight[label], maps[0]).clamp(min=0).numpy()
    found = segmenter(path)
    assert how == "Grad-CAM" and found.shape == (40, 48)
    assert np.corrcoef(on_image(cam, (40, 48)).ravel(), found.ravel())[0, 1] > 0.95


def test_the_query_of_another_image(data, nets, out):
    queries, targets = [data / "ant" / "0.png", data / "cat" / "2.png"], files(data)[5:8]
    pairs = [*nets["dp"], *nets["pc"]]
    record = run(out, "query", *pairs, "--queries", *queries, "--targets", *targets)["query"]
    followed, ignored = (np.array(net["shifted_share"]) for net in record["nets"])
    model = network(nets["dp"])
    for target, row in zip(targets, followed):
        for query, found in zip(queries, row):
            own, driven = naive_attention(model, target)[0], naive_attention(model, target, query)[0]
            assert found == pytest.approx(sum(abs(own - driven).ravel()) / 2, abs=1e-4)
    assert followed.shape == (3, 2) and followed.max() > 0.01
    assert ignored.max() < 1e-5, "the softmax cancels <u, g>"
    assert all((out / f"query_{name}.png").exists() for name in ("dp", "pc"))


def test_a_pair_of_folders(data, nets, out):
    folders = ["--images-dir", data / "cat", "--masks-dir", data / "cat" / "GroundTruth"]
    record = run(out, "segment", *nets["dp"], *folders, "--pictures", 0, "--size", 48)["segmentation"]
    assert list(record["files"]) == ["cat"] and record["nets"][0]["size"] == 48
    assert not list(out.glob("*.png"))


@pytest.mark.whole
def test_demo(tmp_path, monkeypatch, small_demos):
    """The whole of each demo, shortened: it trains once and finds its networks again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("attn_mm.frameworks.mmpretrain.demo.EPOCHS", 2)
    monkeypatch.setattr(demo, "PER_CLASS", 5)
    attending = demo.DOT_PRODUCT
    nets = {"segment": (demo.PLAIN, attending), "query": (attending,), "contrast": (attending,)}
    monkeypatch.setattr(demo, "NETS", nets)
    for analysis, result in (("segment", "segmentation"), ("query", "query"), ("contrast", "contrast")):
        main([analysis, "--demo", "--device", "cpu"])
        record = json.loads(Path("outputs", f"ltpa_{analysis}", f"{result}.json").read_text())
        assert [net["name"] for net in record["nets"]] == list(demo.NETS[analysis])
    trained = Path("work_dirs", "ltpa_demo", attending)
    assert (trained / "epoch_2.pth").exists() and len(list(trained.glob("*/*.log"))) == 1


def test_what_cannot_be_used_is_named(data, nets, tmp_path, capsys):
    plain, attending = nets["plain"], nets["dp"]
    fcos = ["configs/tdaf/fcos-r50_plain_coco.py", plain[1]]
    asks = ["--queries", data / "ant", "--targets", data / "bee"]
    few, small_masks, empty = tmp_path / "few", tmp_path / "small_masks", tmp_path / "empty"
    shutil.copytree(data, few)
    (few / "bee" / "3.png").unlink()
    for folder, mask in ((small_masks, np.ones((9, 9))), (empty, np.zeros((40, 48)))):
        folder.mkdir()
        cv2.imwrite(str(folder / "1.png"), 255 * mask)
    (tmp_path / "torn").mkdir()
    shutil.copy(data / "ant" / "1.png", tmp_path / "torn" / "1.png")
    (tmp_path / "torn" / "2.png").write_bytes(b"no image")
    torn, nothing, renamed = (tmp_path / name for name in ("torn.json", "nothing.txt", "renamed.pth"))
    torn.write_text('{"a":\n[')
    nothing.write_text("")
    meta = {"dataset_meta": {"classes": ("ant", "bee", "dog")}}
    torch.save(torch.load(plain[1], weights_only=True) | {"meta": meta}, renamed)
    listed = "test_dataloader.dataset.ann_file"
    fool_on = ["fool", *plain, "--cfg-options"]
    cases = [
        (["fool"], "give CONFIG CHECKPOINT for each network, or --demo"),
        (["fool", plain[0]], "give CONFIG CHECKPOINT"),
        (["fool", *plain, "--demo"], "--demo brings its own networks and images: leave nets out"),
        (
            ["fool", *fcos],
            "configs/tdaf/fcos-r50_plain_coco.py is for mmdet; use an mmpretrain classifier",
        ),
        (["fool", attending[0], plain[1]], "does not fit"),
        (["fool", *plain, *plain], "two networks are called"),
        (["fool", *plain, "--names", "a", "b"], "--names has 2 names for 1 networks"),
        (["fool", *plain, "--data-root", "nowhere"], "nowhere/ant/0.png and 14 more of the images"),
        (
            [*fool_on, f"{listed}={torn}"],
            "torn.json can't be read as the annotations of CustomDataset",
        ),
        (
            [*fool_on, f"{listed}={nothing}"],
            "has nothing to use: it is empty",
        ),
        (["fool", plain[0], renamed], "'cat' instead of 'dog'"),
        (["transfer", *plain], "give image sets with --sets"),
        (["transfer", *plain, "--sets", few], "bee contains 4 images: 5 folds need 5 per class"),
        (["transfer", *plain, "--sets", data / "ant"], "at least two classes"),
        (["segment", *attending], "give --data, a folder in the Object Discovery layout, or --images-dir"),
        (
            ["segment", *plain, "--data", data, "--by", "activation", "--power", "1e9"],
            "--power 1e+09: the maps of ",
        ),
        (
            ["segment", *attending, "--data", tmp_path],
            "contains no folder of images with a folder GroundTruth",
        ),
        (
            ["segment", *attending, "--images-dir", data / "ant", "--masks-dir", small_masks],
            "has 9x9 pixels, its image 48x40",
        ),
        (
            ["segment", *attending, "--images-dir", data / "ant", "--masks-dir", empty],
            "all 1 masks, such as",
        ),
        (
            ["segment", *attending, "--images-dir", data / "ant", "--masks-dir", tmp_path / "torn"],
            "2.png can't be read as an image",
        ),
        (["query", *attending], "give images, or folders of images, with --queries and --targets"),
        (["contrast", *attending], "give images, or folders of images, with --targets"),
        (["query", *plain, *asks], "plain has no attn_mm.LTPAHead"),
        (["query", *attending, *asks, "--level", 3], "--level 3: dp has only 2 levels"),
    ]
    for args, message in cases:
        line = failure(capsys, *args, "--out", tmp_path / "out", "--device", "cpu")
        assert line.startswith("error: ") and message in line, (args, line)
