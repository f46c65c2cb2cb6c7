"""A fifth framework is one class and one registration: every command then knows its configs."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from attn_mm import frameworks
from attn_mm.describe import main as describe
from attn_mm.errors import UserError
from attn_mm.explorer import explore
from attn_mm.frameworks.framework import Framework
from attn_mm.frameworks.loading import load_model
from attn_mm.inference import infer
from attn_mm.run import train

CONFIG = """
default_scope = "toy"
custom_imports = dict(imports=["toy_framework"])
model = dict(type="ToyNet")
train_dataloader = val_dataloader = test_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(type="ToySet", folder="{photos}"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
)
val_cfg, test_cfg, default_hooks = dict(), dict(), dict(logger=dict(type="LoggerHook"))
"""


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """The framework, registered while the test runs: a config of it, a checkpoint and a folder of images."""
    monkeypatch.setattr(frameworks, "_LOCATIONS", dict(frameworks._LOCATIONS))
    frameworks.register("toy", "toy_framework:Toy")
    import toy_framework

    photos = tmp_path / "photos"
    photos.mkdir()
    for index, level in enumerate((20, 230, 60, 200)):
        cv2.imwrite(str(photos / f"{index}.png"), np.full((24, 32, 3), level, np.uint8))
    config, checkpoint = tmp_path / "toy.py", tmp_path / "toy.pth"
    config.write_text(CONFIG.format(photos=photos))
    torch.save(dict(state_dict=toy_framework.ToyNet().state_dict()), checkpoint)
    return str(config), str(checkpoint), str(photos)


def test_a_config_finds_its_framework(toy):
    assert frameworks.framework_of(Config.fromfile(toy[0])).name == "toy"
    assert frameworks.known_frameworks()[-1] == "toy"


def test_infer_predicts_and_draws(toy, tmp_path, capsys):
    infer.main([*toy, "--out", str(tmp_path / "out"), "--ink", "7", "--device", "cpu"])
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert found["classes"] == ["dark", "bright"] and found["score_thr"] == 0.3
    assert all(record["objects"][0]["class"] in found["classes"] for record in found["results"])
    drawn = cv2.imread(str(tmp_path / "out" / "1.png"))
    assert drawn.shape == (28, 36, 3) and (drawn[0] == 7).all() and (drawn[5, 5] == 230).all()
    assert "4 moods in 4 images" in capsys.readouterr().out


def test_explore_shows_its_attention_and_what_its_target_explains(toy, tmp_path):
    explore.main([*toy, "--out", str(tmp_path / "out"), "--device", "cpu"])
    results = json.loads((tmp_path / "out" / "attention.json").read_text())["results"]
    maps = results[0]["attention"][0]["maps"]
    (cam,) = [item for item in maps if item["kind"] == "Grad-CAM"]
    assert cam["layer"] == "backbone.1" and cam["size"] == [22, 30]
    assert cam["score"] == results[0]["objects"][0]["class"]
    assert len(maps) > 1, "CBAM's own"


def test_describe_runs_its_models(toy, capsys):
    describe.main([toy[0], "--shape", "3", "24", "32"])
    assert "ToyNet" in capsys.readouterr().out


def test_its_demo_trains_and_draws(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train.main([toy[0], "--demo", "--work-dir", "demo"])
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert 0 <= results["metrics"]["right"] <= 1
    names = sorted(path.name for path in (tmp_path / "demo" / "pictures").glob("*.png"))
    assert names == ["0.png", "1.png", "2.png", "3.png"]
    model = load_model(Config.fromfile(toy[0]), str(tmp_path / "demo" / "epoch_2.pth"), "cpu")
    assert model.dataset_meta == {"classes": ("dark", "bright")}


def test_its_flags_are_for_its_configs(toy, tmp_path, capsys):
    other = tmp_path / "other.py"
    other.write_text("default_scope = 'mmdet'\n")
    for flags, line in (
        ((str(other), *toy[1:], "--ink", "7"), f"--ink is for toy configs, and {other} is for mmdet"),
        ((*toy, "--classes", "names.txt"), f"--classes is for action configs, and {toy[0]} is for toy"),
    ):
        with pytest.raises(SystemExit):
            infer.main([*flags, "--device", "cpu"])
        assert capsys.readouterr().err == f"error: {line}\n"


def test_a_framework_without_a_demo_says_so(toy):
    class Bare(Framework):
        name = "bare"

    with pytest.raises(UserError, match=f"--demo: there is none for configs of bare such as {toy[0]}"):
        Bare().demo(Config.fromfile(toy[0]))


def test_the_folders_import_no_framework():
    """A user of one framework needs no other one, and who names no config needs no folder."""
    code = (
        "import sys, attn_mm, attn_mm.run.launch; from attn_mm import frameworks as f;"
        "print(*[name for name in sys.modules if name.startswith('attn_mm.frameworks.mm')]);"
        "[f.get_framework(name) for name in f.known_frameworks()];"
        "print(*({'mmdet', 'mmpose', 'mmaction', 'mmpretrain'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "\n\n"
