"""The attention explorer: its page shows the maps of the network, for every framework and in a browser."""

from __future__ import annotations

import base64
import html
import json
import shutil
import subprocess
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import small
import small_videos
import torch
from layers import reference_gates, reference_td
from layers.reference import leaves
from mmengine.config import Config

from attn_mm.explorer.explore import main
from attn_mm.explorer.page import Page, Shown
from attn_mm.frameworks.loading import load_model
from attn_mm.layers.recording import AttentionKind
from attn_mm.maps.colours import colours
from attn_mm.maps.overlay import fit_to_image
from attn_mm.maps.panels import Panel
from attn_mm.run import demo_networks as demo
from attn_mm.utils.config import load_config

CLASSES = ("ant", "bee", "cat")
WIDTH = 8


def classifier(root, *grafts) -> tuple[str, str]:
    """A small ResNet-18 for 32x32 images; its config file and a checkpoint of random weights."""
    cfg = load_config("configs/tam/r18_plain_300e_cifar10.py")
    plain = dict(cfg.model.backbone, stem_channels=WIDTH, base_channels=WIDTH)
    cfg.model.backbone = dict(type="attn_mm.AttnBackbone", backbone=plain, grafts=grafts) if grafts else plain
    cfg.model.head.update(in_channels=8 * WIDTH, num_classes=len(CLASSES))
    cfg.test_dataloader.dataset = dict(
        type="CustomDataset", metainfo=dict(classes=CLASSES), pipeline=cfg.test_dataloader.dataset.pipeline
    )
    name = root / "classifier.py"
    return small.dump(cfg, name), small.save_weights(cfg, root / "classifier.pth", meta=dict(classes=CLASSES))


GRAFTS = (
    dict(type="attn_mm.CBAM", position="after_conv2", reduction=2),
    dict(type="attn_mm.TD", mode="joint"),
)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in (2, 10):
        cv2.imwrite(str(folder / f"{index}.png"), small.picture(32, 32, seed=index))
    (folder / "broken.jpg").write_bytes(b"not a picture")
    return folder


def explore(model, source, out, *flags):
    """Run the tool; the manifest of its page, its pictures' data and its JSON file."""
    main([*map(str, model), str(source), "--out", str(out), "--device", "cpu", *flags])
    page = (out / "index.html").read_text()
    manifest = json.loads(page.split('type="application/json">')[1].split("</script>")[0])
    files = [frame["file"] for item in manifest["items"] for frame in item["frames"]]
    data = [
        json.loads((out / file).read_text().split(", ", 1)[1].rstrip().removesuffix(");")) for file in files
    ]
    return manifest, data, json.loads((out / "attention.json").read_text())


def decoded(panel):
    """The map that the page shows, (h, w), and how far it may be from the network's."""
    map_ = panel["map"]
    levels = np.frombuffer(base64.b64decode(map_["levels"]), np.uint8).reshape(map_["size"])
    span = map_["high"] - map_["low"]
    return map_["low"] + levels / 255 * span, span / 509 + 1e-9


def kinds(manifest, view):
    return [manifest["kinds"][panel["kind"]]["name"] for panel in view["panels"]]


def test_a_classifier(photos, tmp_path, capsys):
    model = classifier(tmp_path, *GRAFTS)
    manifest, data, summary = explore(model, photos, tmp_path / "out")
    assert [item["name"] for item in manifest["items"]] == ["2.png", "10.png"]
    assert (
        summary["skipped"] == ["broken.jpg"]
        and "broken.jpg can't be read as an image" in capsys.readouterr().err
    )
    check_td_and_cbam(model, photos / "10.png", manifest, data[1]["views"][0])
    check_grad_cam(manifest, data[1]["views"][0])
    # The JSON file and the page have the same panels, those of the gates last.
    panels, maps = data[1]["views"][0]["panels"], summary["results"][1]["attention"][0]["maps"]
    assert sorted(map(str, ([panel["layer"], panel["full"]] for panel in panels))) == sorted(
        map(str, ([item["layer"], item["size"]] for item in maps))
    )
    (best, *_) = summary["results"][1]["objects"]
    assert data[1]["objects"][0] == {"name": best["class"], "score": best["score"]}


def check_td_and_cbam(model, path, manifest, view):
    """The page's maps of the last block are the formulas' of what the block got."""
    network = load_model(Config.fromfile(model[0]), model[1], "cpu").double()
    pixels = torch.from_numpy(cv2.imread(str(path))).permute(2, 0, 1)
    inputs = network.data_preprocessor({"inputs": [pixels]}, False)["inputs"].double()
    block = network.backbone.layer4[1]
    got = {}
    hooks = [
        block.conv2.register_forward_pre_hook(
            lambda module, inputs: got.setdefault("bottoms", []).append(inputs[0])
        ),
        block.attn["conv2"][0].register_forward_pre_hook(lambda module, inputs: got.update(cbam=inputs[0])),
        block.norm2.register_forward_hook(lambda module, inputs, output: got.update(top=output)),
    ]
    with torch.no_grad():
        network(inputs, mode="tensor")
        for hook in hooks:
            hook.remove()
        _, positions, _ = reference_td.attend(leaves(block.td.attention), got["bottoms"][0], got["top"])
        params, norm = leaves(block.attn["conv2"][0]), block.attn["conv2"][0].spatial[1]

        def normalised(seen):
            return (seen - norm.running_mean) / (norm.running_var + norm.eps).sqrt()

        x = got["cbam"]
        channels = reference_gates.cbam(x, params, None, spatial=False)
        gate = (reference_gates.cbam(x, params, normalised) / channels)[0, 0]
    expected = {"TD searchlight: where": positions[0], "CBAM: where": gate}
    for panel, name in zip(view["panels"], kinds(manifest, view)):
        if name in expected and "layer4.1" in panel["layer"]:
            values, tolerance = decoded(panel)
            wanted = expected.pop(name).numpy()
            np.testing.assert_allclose(values, wanted, atol=tolerance + 1e-5)
            assert panel["figures"]["mean"] == pytest.approx(wanted.mean(), abs=1e-5)
            assert panel["figures"]["spread"] == pytest.approx(wanted.std(), abs=1e-5)
    assert not expected, "a map is missing"


def check_grad_cam(manifest, view):
    """The last step's map is the network's own, the shift is the difference of the steps' scaled maps."""
    found = {}
    for panel, name in zip(view["panels"], kinds(manifest, view)):
        found.setdefault(name, []).append(panel)
    layers, steps, (shift,) = (found[n] for n in ("Grad-CAM", "Grad-CAM by step", "Attention shift"))
    assert [panel["layer"] for panel in layers] == [f"backbone.layer{n}" for n in (1, 2, 3, 4)]
    assert [panel["place"] for panel in steps] == [{"step": 1}, {"step": 2}]
    np.testing.assert_allclose(decoded(steps[1])[0], decoded(layers[3])[0], rtol=1e-5)
    first, second = (decoded(panel)[0] / decoded(panel)[0].max() for panel in steps)
    np.testing.assert_allclose(decoded(shift)[0], second - first, atol=0.02)
    assert shift["signed"] and steps[0]["note"].startswith("says ")


def test_a_network_without_attention(photos, tmp_path):
    manifest, data, _ = explore(classifier(tmp_path), photos / "2.png", tmp_path / "out")
    assert kinds(manifest, data[0]["views"][0]) == ["Grad-CAM"] * 4


def test_an_interrupted_run_leaves_its_page(photos, tmp_path, monkeypatch, capsys):
    images = iter([small.picture(32, 32)])

    def interrupted(path):
        for image in images:
            return image
        raise KeyboardInterrupt

    monkeypatch.setattr("attn_mm.explorer.explore.read_image", interrupted)
    (photos / "broken.jpg").unlink()
    with pytest.raises(SystemExit) as stopped:
        explore(classifier(tmp_path), photos, tmp_path / "out")
    assert stopped.value.code == 130 and "ended early" in capsys.readouterr().err
    assert "2.png" in (tmp_path / "out" / "index.html").read_text()


HOSTILE = "<img src=x onerror=\"document.body.id='hacked'\">'\u2028.png"
# What the page shows, as text in an element that the dump has: a map's pixels, the ends of all scales, and
# what the buttons save.
PROBE = """<script>setTimeout(async () => {
  const { panel, node } = cards[0], all = current.views[0].panels, seen = { key: panel.key, saved: [] };
  const read = (canvas, ...box) => {
    const copy = element("canvas", { width: canvas.width, height: canvas.height });
    copy.getContext("2d").drawImage(canvas, 0, 0);
    return [...copy.getContext("2d").getImageData(...box).data];
  };
  for (const [scale, colours] of [["shared", "cividis"], ["own", "turbo"]]) {
    Object.assign(state, { scale, colours });
    update();
    const canvas = node.querySelector("canvas"), { width, height } = canvas;
    seen[scale] = [limits(panel, all), [height, width], read(canvas, 0, 0, width, height)];
  }
  seen.limits = Object.fromEntries(["shared", "kind", "own"].map((scale) => {
    state.scale = scale;
    return [scale, all.filter((other) => other.map).map((other) => [other.key, limits(other, all)])];
  }));
  state.scale = "shared";
  const links = HTMLAnchorElement.prototype, asked = [];
  links.click = function () { asked.push(this.download); };
  for (const opener of [node, cards.at(-1).nodes[0]]) {
    opener.click();
    byId("save-svg").click();
    const root = enlarged(), png = await asCanvas(root);
    seen.saved.push([asText(root), png.width, png.toDataURL().length, read(png, 60, 250, 1, 1)]);
    byId("save-png").click();
    byId("large").close();
    // The PNG is ready after its panel was closed. Timers alone run in virtual time, ahead of the encoder.
    for (let turn = 0; asked.length < 2 * seen.saved.length && turn < 200; turn++) {
      await asCanvas(root);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
  seen.asked = asked;
  document.body.append(element("pre", { id: "seen", text: JSON.stringify(seen) }));
}, 1000)</script></body>"""


def test_the_page_in_a_browser(photos, tmp_path):
    """From its file, without a network: all maps are there as they should be, nothing is complained of."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium")
    out = tmp_path / "out"
    (photos / "2.png").rename(photos / HOSTILE)
    manifest, data, _ = explore(classifier(tmp_path, *GRAFTS), photos, out)
    # As if a third of the input's width were padding.
    file, page = out / manifest["items"][1]["frames"][0]["file"], out / "index.html"
    assert manifest["items"][1]["name"] == HOSTILE
    file.write_text(file.read_text().replace('"valid": [1.0, 1.0]', '"valid": [1.0, 0.6666]'))
    page.write_text(page.read_text().replace("</body>", PROBE))
    flags = (
        "--headless=new --no-sandbox --disable-gpu --virtual-time-budget=5000 --enable-logging=stderr --v=0"
    )
    url = f"file://{page}#item=1&step=2&opacity=35"
    command = [browser, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", url]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in run.stderr, run.stderr
    assert "hacked" not in run.stdout.split("<body")[1].split(">")[0]
    (view,) = data[1]["views"]
    shown = [panel for panel in view["panels"] if panel["place"].get("step", 2) == 2]
    maps = [panel for panel in shown if "map" in panel]
    sections = run.stdout.split('<main id="sections">')[1].split("</main>")[0]
    assert sections.count("<canvas") == len(maps) and sections.count("<svg") == len(shown) - len(maps)
    assert sections.count("<strong>") == sum(bool(panel["flat"]) for panel in shown)
    for kind in manifest["kinds"]:
        assert html.escape(kind["paper"], quote=False) in run.stdout
        assert html.escape(kind["meaning"], quote=False) in run.stdout
    assert "--opacity: 0.35" in run.stdout
    seen = json.loads(html.unescape(run.stdout.split('<pre id="seen">')[1].split("</pre>")[0]))
    for scale, names in {"shared": "cividis", "own": "turbo"}.items():
        check_colours(view, seen["key"], names, *seen[scale])
    check_limits(manifest, view, seen["limits"])
    check_saved(view, seen)


def check_limits(manifest, view, limits):
    """Gates share all that is possible; other maps what their layer, or their section, or they alone have."""
    panels = {panel["key"]: panel for panel in view["panels"] if "map" in panel}
    for scale, ends in limits.items():
        assert len(ends) == len(panels)
        for key, (low, high) in ends:
            panel = panels[key]
            bounds = manifest["kinds"][panel["kind"]]["bounds"]
            alike = [p for p in panels.values() if p["kind"] == panel["kind"]]
            if scale == "shared":
                alike = [p for p in alike if p["layer"] == panel["layer"]]
            lowest, highest = min(p["figures"]["min"] for p in alike), max(p["figures"]["max"] for p in alike)
            if scale == "own":
                lowest, highest = panel["figures"]["min"], panel["figures"]["max"]
            if panel["signed"]:
                assert high == -low == pytest.approx(max(-lowest, highest))
            elif bounds is None:
                assert (low, high) == pytest.approx((min(0, lowest), highest))
            elif scale == "shared":
                assert [low, high] == bounds
            else:
                assert low <= lowest and high >= highest
                assert high - low == pytest.approx(max(0.1, highest - lowest))


def check_saved(view, seen):
    """A map and a histogram, each as a picture that needs no other file."""
    names = [name.rsplit(".", 1) for name in seen["asked"]]
    svgs, pngs = ([name for name, ending in names if ending == kind] for kind in ("svg", "png"))
    assert len(svgs) == 2 and svgs == pngs
    assert not any(set(name) & set("<>\"'/| ") for name in seen["asked"])
    for (text, width, length, pixel), tag in zip(seen["saved"], ("image", "path")):
        root = ElementTree.fromstring(text)
        found = {node.tag.rpartition("}")[2] for node in root.iter()}
        assert {"text", tag} <= found and not found & {"script", "img", "foreignObject"}
        links = [value for node in root.iter() for key, value in node.items() if key.endswith("href")]
        assert all(link.startswith("data:image/") for link in links) and (len(links) == 2) == (tag == "image")
        # What is said of the panel, and of which picture.
        assert HOSTILE in "".join(node.text or "" for node in root.iter() if node.tag.endswith("text"))
        assert width == 2 * int(root.get("width")) and length > 5000
        assert pixel[3] == 255
    assert seen["saved"][0][3][:3] != [255, 255, 255], "the PNG has no map"


def check_colours(view, key, scale, limits, size, pixels):
    """They are the scale's for the values interpolated at the centres of the pixels."""
    low, high = limits
    (panel,) = (panel for panel in view["panels"] if panel["key"] == key)
    level = (fit_to_image(decoded(panel)[0], size, (1.0, 0.6666)) - low) / (high - low)
    drawn = np.array(pixels).reshape(*size, 4)
    expected = colours(level, scale)[..., ::-1].astype(int)
    # A step of the page's 256 colours is at most so much, in a channel.
    assert np.abs(drawn[..., :3] - expected).max() <= 8 and (drawn[..., 3] == 255).all()
    # On the shared scale an untrained gate is flat, which proves little.
    assert scale != "turbo" or np.ptp(expected, axis=(0, 1)).max() > 100


def test_names_are_no_markup(tmp_path):
    """Neither the title nor a name, a label or a layer ends an element or begins one."""
    bad = "</script><script>hacked()</script>{{ 7 * 7 }}&amp;"
    kind = AttentionKind(bad, bad, bad)
    panel = Panel(kind, np.zeros((2, 2)), bad)
    for folder in ("pictures", "data"):
        (tmp_path / folder).mkdir()
    picture = np.zeros((8, 8, 3), np.uint8)
    with Page(tmp_path, bad, {bad: "\udcff"}) as page:
        page.add(bad, picture, [{"name": bad, "score": 1.0}], [Shown(bad, picture, (1, 1), [panel])])
    text = (tmp_path / "index.html").read_text()
    assert text.count("</script>") == 2 and "hacked()<" not in text
    assert html.unescape(text.split("<title>")[1].split("</title>")[0]) == bad
    manifest = json.loads(text.split('type="application/json">')[1].split("</script>")[0])
    assert manifest["items"][0]["name"] == bad and manifest["kinds"][0]["paper"] == bad
    assert "does not vary" in (tmp_path / "data/00000.js").read_text()


def test_a_detector_and_a_video(tmp_path):
    """The masks of every flow and stage, interpolated as tools/infer.py interpolates them."""
    pytest.importorskip("mmdet")
    cfg = small.detection_config(tmp_path)
    cfg.model.backbone = dict(type="attn_mm.TDAF", backbone=cfg.model.backbone, flows=3, width=32)
    model = small.dump(cfg, tmp_path / "c.py"), small.save_weights(cfg, tmp_path / "c.pth", spread=0.1)
    small_videos.write_video(tmp_path / "clip.mp4", frames=7)
    manifest, data, summary = explore(
        model, tmp_path / "clip.mp4", tmp_path / "out", "--frames", "3", "--score-thr", "0"
    )
    (item,) = manifest["items"]
    assert [frame["index"] for frame in item["frames"]] == [0, 3, 6]
    assert [record["frame"] for record in summary["results"]] == [0, 3, 6]
    view = data[0]["views"][0]
    masks = [p for p, name in zip(view["panels"], kinds(manifest, view)) if name == "TDAF mask"]
    places = [(panel["place"]["stage"], panel["place"]["flow"]) for panel in masks]
    assert sorted(places) == [(1, 2), (1, 3), (2, 2), (2, 3), (3, 3)]
    assert masks[0]["title"] == "stage 1, flow 1 → 2"
    cams = [
        p["place"]["flow"] for p, name in zip(view["panels"], kinds(manifest, view)) if name == "Grad-CAM"
    ]
    assert cams == [1, 2, 3, 1, 2, 3, 2, 3, 3]
    # The scale of a video's map is that of all its frames.
    for panel in masks:
        ranges = [
            p["figures"] for frame in data for p in frame["views"][0]["panels"] if p["key"] == panel["key"]
        ]
        assert item["scales"][panel["key"]] == [min(r["min"] for r in ranges), max(r["max"] for r in ranges)]


def test_persons(tmp_path):
    pytest.importorskip("mmpose")
    annotations = small.coco_set(tmp_path, 2)
    boxes = [
        dict(image_id=100, category_id=1, bbox=[x, 2, 30, 40], score=score)
        for x, score in ((4, 0.5), (20, 0.9), (8, 0.1))
    ]
    files = (
        small.write_annotations(tmp_path, annotations),
        small.write_annotations(tmp_path, boxes, "boxes.json"),
    )
    cfg = small.pose_config(tmp_path)
    model = small.dump(cfg, tmp_path / "c.py"), small.save_weights(cfg, tmp_path / "c.pth")
    flags = "--ann-file", str(files[0]), "--bbox-file", str(files[1])
    _, data, _ = explore(model, tmp_path / "images", tmp_path / "out", *flags)
    assert [view["label"] for view in data[0]["views"]] == ["person 1 (0.90)", "person 2 (0.50)"]
    assert [view["size"] for view in data[0]["views"]] == [[64, 32]] * 2
    assert data[1]["views"] == [], "nobody is in the second image"


@pytest.mark.parametrize("base", [small_videos.SLOWONLY, small_videos.TSN], ids=["3d", "2d"])
def test_actions(base, tmp_path):
    """A clip's maps are interpolated to its frames; a 2D network's are each frame's own."""
    pytest.importorskip("mmaction")
    cfg = small_videos.action_config(tmp_path, base)
    grafts = [dict(type="attn_mm.TAM", stages=(1,), position="after_conv1")]
    cfg.model.backbone = dict(type="attn_mm.AttnBackbone", backbone=cfg.model.backbone, grafts=grafts)
    model = small.dump(cfg, tmp_path / "c.py"), small.save_weights(cfg, tmp_path / "c.pth")
    small_videos.write_video(tmp_path / "clip.mp4", frames=20)
    manifest, data, summary = explore(model, tmp_path / "clip.mp4", tmp_path / "out", "--frames", "20")
    assert len(data) == len(manifest["items"][0]["frames"]) == len(summary["results"]) > 2
    assert len(summary["results"][0]["actions"]) == 5
    for frame in data:
        (view,) = frame["views"]
        assert set(kinds(manifest, view)) == {"TAM gate", "Grad-CAM"}
        assert all(len(panel["full"]) == 2 for panel in view["panels"])
    moved = [decoded(frame["views"][0]["panels"][0])[0] for frame in data]
    assert np.abs(moved[0] - moved[-1]).max() > 1e-4, "every frame has the same map"


def test_the_demo(tmp_path, monkeypatch, small_demos):
    monkeypatch.setattr(demo, "EXPLORED_EPOCHS", 1)
    main(["--demo", "--out", str(tmp_path / "out"), "--device", "cpu"])
    summary = json.loads((tmp_path / "out" / "attention.json").read_text())
    assert len(summary["results"]) == 6
    assert {"CBAM: where", "TD searchlight: where", "Grad-CAM by step"} <= summary["kinds"].keys()


def refused(capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, args)])
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_what_cant_be_used_is_named(photos, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "empty").mkdir()
    model, other = classifier(tmp_path, *GRAFTS), classifier(tmp_path / "other")
    out = "--out", tmp_path / "out"
    assert "does not fit" in refused(capsys, model[0], other[1], photos, *out)
    assert "contains no image" in refused(capsys, *model, tmp_path / "empty", *out)
    assert "can't be read as an image" in refused(capsys, *model, photos / "broken.jpg", *out)
    assert "the input's own folder" in refused(capsys, *model, photos, "--out", photos)
    shutil.copytree(photos, tmp_path / "album" / "pictures")
    own = refused(capsys, *model, tmp_path / "album" / "pictures", "--out", tmp_path / "album")
    assert "album/pictures is the input's own folder" in own
    assert "give a config, a checkpoint and an input, or --demo" in refused(capsys, *model)
    assert "leave config, checkpoint and input out" in refused(capsys, *model, photos, "--demo")
    assert "is for pose configs" in refused(capsys, *model, photos, "--bbox-file", "x.json", *out)
    assert not (tmp_path / "out").exists()
    for path in photos.glob("*.png"):
        path.unlink()
    assert "none of the 1 images" in refused(capsys, *model, photos, *out)
