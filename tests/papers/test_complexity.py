"""The command that counts a config's network, or the papers'."""

from __future__ import annotations

import json

import pytest

from attn_mm.papers.complexity import main


@pytest.fixture
def small_classifier(tmp_path):
    pytest.importorskip("mmpretrain")
    path = tmp_path / "small.py"
    path.write_text(
        "default_scope = 'mmpretrain'\n"
        "model = dict(type='ImageClassifier', backbone=dict(type='ResNet_CIFAR', depth=18),\n"
        "             neck=dict(type='GlobalAveragePooling'),\n"
        "             head=dict(type='LinearClsHead', num_classes=10, in_channels=512))\n"
    )
    return path


def test_command(small_classifier, tmp_path, capsys):
    main([str(small_classifier), "--shape", "3", "32", "32", "--out", str(tmp_path / "counts")])
    shown = capsys.readouterr().out
    assert "| backbone.layer4 | ResLayer" in shown
    assert shown == (tmp_path / "counts/small.md").read_text()
    record = json.loads((tmp_path / "counts/small.json").read_text())
    assert record["shape"] == [3, 32, 32]
    assert record["parts"][0] | {"type": ""} == {
        "name": "",
        "type": "",
        "params": 11_173_962,
        "trainable": 11_173_962,
        "frozen_affine": 0,
        "conv": 555_422_720,
        "full": 557_216_768,
    }


def test_command_takes_options(small_classifier, capsys):
    main([str(small_classifier), "--shape", "3", "32", "32", "--cfg-options", "model.head.num_classes=100"])
    assert "11,220,132" in capsys.readouterr().out


def test_frozen_norms_are_told(repo, capsys):
    pytest.importorskip("mmdet.models")
    main([str(repo / "configs/tdaf/fcos-r50_plain_coco.py"), "--shape", "3", "64", "64"])
    assert "frozen batch norms: 32,244,250 parameters" in capsys.readouterr().out


def test_second_stages_need_real_boxes(tmp_path, capsys):
    pytest.importorskip("mmdet.models")
    path = tmp_path / "two_stages.py"
    path.write_text("_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'\n")
    main([str(path), "--shape", "3", "64", "64"])
    shown = capsys.readouterr().out
    assert "| roi_head" in shown and "41,753,056" in shown


@pytest.mark.parametrize("scope", ["mmpose", "mmaction"])
def test_other_frameworks(scope, tmp_path, capsys):
    pytest.importorskip(f"{scope}.models")
    base, shape, params = {
        "mmpose": (
            "body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py",
            "input 3 x 256 x 192",
            "33,999,697",
        ),
        "mmaction": (
            "recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py",
            "input 3 x 3 x 224 x 224",
            "24,327,632",
        ),
    }[scope]
    path = tmp_path / "net.py"
    path.write_text(f"_base_ = '{scope}::{base}'\n")
    main([str(path)])
    shown = capsys.readouterr().out
    assert shape in shown and params in shown


def test_backbones_are_counted_alone(tmp_path, capsys):
    pytest.importorskip("mmdet.models")
    path = tmp_path / "backbone.py"
    path.write_text("model = dict(type='mmdet.ResNet', depth=50)\n")
    main([str(path)])
    shown = capsys.readouterr().out
    assert "23,508,032" in shown and "4.120 G" in shown


def one_line(capsys, *arguments):
    """The mistake that the command tells of, in one line."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and told.err.count("\n") == 1 and not told.out
    return told.err


@pytest.mark.parametrize(
    "model, reason",
    [
        ("dict(type='Nope')", "can't be built: there is no model of the type Nope"),
        ("dict(depth=50)", "can't be built: KeyError: `cfg` or `default_args` must contain the key"),
        ("dict(type='ResNet', depth=19)", "can't be built: KeyError: invalid depth 19"),
        ("dict(type='ResNet', depht=18)", "can't be built: ResNet has no 'depht'; if a base config"),
        (
            "dict(type='attn_mm.AttnBackbone', backbone=dict(type='ResNet', depth=18), grafts=[])",
            "built: grafts",
        ),
        ("3", "must be a dict, got 3"),
    ],
)
def test_models_that_cannot_be_built(model, reason, tmp_path, capsys):
    pytest.importorskip("mmpretrain")
    path = tmp_path / "net.py"
    path.write_text(f"default_scope = 'mmpretrain'\nmodel = {model}\n")
    told = one_line(capsys, path)
    assert f"the model of {path} " in told and reason in told and "--shape" not in told


def test_options_that_the_model_does_not_take(small_classifier, capsys):
    told = one_line(capsys, small_classifier, "--cfg-options", "model.backbone.depth=7")
    assert f"the model of {small_classifier} can't be built: KeyError: invalid depth 7" in told


def test_faults_of_the_program_keep_their_traceback(small_classifier, monkeypatch):
    def fault(*args, **kwargs):
        raise AttributeError("no such name")

    monkeypatch.setattr("attn_mm.describe.complexity.measure", fault)
    with pytest.raises(AttributeError, match="no such name"):
        main([str(small_classifier)])


def test_results_that_cannot_be_written(small_classifier, tmp_path, capsys):
    # A folder of that name stops anyone's writing; a read-only one does not stop root's.
    (tmp_path / "counts/small.json").mkdir(parents=True)
    arguments = [str(small_classifier), "--shape", "3", "32", "32", "--out", str(tmp_path / "counts")]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error == f"error: {tmp_path / 'counts/small.json'} can't be written (Is a directory)\n"


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "give either a config or --paper"),
        (["{config}", "--paper"], "give either a config or --paper"),
        (["nowhere.py"], "config nowhere.py does not exist"),
        (["{config}", "--shape", "5", "32", "32"], "does not run on an input of 5 x 32 x 32"),
        (["{config}", "--shape", "3"], "does not run on an input of 3 (--shape)"),
        (["{empty}"], "has no model"),
        (["{config}", "--out", "{config}"], "can't be made (File exists)"),
        (["--paper", "tadf"], "--paper knows aw, ltpa, tam, td, tdaf, not tadf"),
        (["--paper", "td", "--shape", "3", "8", "8"], "--paper takes no --shape and no --cfg-options"),
    ],
)
def test_mistakes_are_one_line(arguments, complaint, small_classifier, tmp_path, capsys):
    (tmp_path / "empty.py").write_text("default_scope = 'mmpretrain'\n")
    names = dict(config=small_classifier, empty=tmp_path / "empty.py")
    assert complaint in one_line(capsys, *(argument.format(**names) for argument in arguments))
