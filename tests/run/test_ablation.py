"""Ablations and runs with several seeds: their tables are those of single runs, and none is run twice."""

from __future__ import annotations

import copy
import gc
import json
import math
import socket
import statistics

import cv2
import pytest
import small
import torch
from mmengine.config import Config

from attn_mm.errors import Terminated, UserError
from attn_mm.papers import ablate as command
from attn_mm.papers.presets import PRESETS
from attn_mm.run import ablation, series, train
from attn_mm.run.vary import Options, split_vary
from attn_mm.utils.config import load_config

pytest.importorskip("mmpretrain")

CLASSES = tuple("abcdefgh")
TD = dict(type="attn_mm.TD", mode="joint", steps=2, distance=1, reduction=4)
METRICS = ("accuracy/top1", "single-label/recall")


def config(root, folder) -> Config:
    """A classifier that trains for two epochs of two steps, and two metrics."""
    cfg = load_config("configs/td/r18_plain_125e_in1k.py")
    # Statistics that follow the weights at once: predictions then differ from run to run.
    norm = dict(type="BN", momentum=0.9)
    net = dict(type="ResNet_CIFAR", depth=18, stem_channels=4, base_channels=4, norm_cfg=norm)
    cfg.model = dict(
        type="ImageClassifier",
        backbone=dict(type="attn_mm.AttnBackbone", backbone=net, grafts=[TD]),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", in_channels=32, num_classes=len(CLASSES)),
    )
    cfg.data_preprocessor.update(num_classes=len(CLASSES))
    cfg.optim_wrapper.optimizer.lr = 0.05
    data = dict(
        type="CustomDataset",
        data_root=str(root / "images"),
        metainfo=dict(classes=CLASSES),
        pipeline=[dict(type="LoadImageFromFile"), dict(type="PackInputs")],
    )
    for split in ("train", "val", "test"):
        cfg[f"{split}_dataloader"] = dict(
            batch_size=8, num_workers=0, dataset=data, sampler=dict(type="DefaultSampler", shuffle=True)
        )
    cfg.val_evaluator = cfg.test_evaluator = [
        dict(type="Accuracy", topk=(1,)),
        dict(type="SingleLabelMetric", items=("recall",)),
        # A list, which has no mean and deviation.
        dict(type="SingleLabelMetric", items=("precision",), average=None),
    ]
    cfg.train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
    cfg.param_scheduler = []
    cfg.work_dir = str(folder)
    return cfg


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Folders of 2 images for each of the classes."""
    root = tmp_path_factory.mktemp("classes")
    for place, name in enumerate(CLASSES):
        (root / "images" / name).mkdir(parents=True)
        for number in range(2):
            picture = small.picture(32, 32, seed=2 * place + number)
            assert cv2.imwrite(str(root / "images" / name / f"{number}.png"), picture)
    return root


@pytest.fixture(scope="module")
def path(root) -> str:
    return small.dump(config(root, root / "unused"), root / "td.py")


VARY = ["--vary", "TD.distance=0,1", "--plain", "--seeds", "2"]


@pytest.fixture(scope="module")
def done(root, path):
    """The folder of an ablation of three networks with two seeds, and its record."""
    out = root / "ablation"
    with pytest.MonkeyPatch.context() as patch:
        # As in conftest, whose fixtures come after this one.
        gc.freeze()
        patch.setattr("mmengine.runner.runner.collect_env", dict)
        patch.setattr("mmengine.config.config.FormatCode", lambda text, **_: (text, False))
        command.main([path, *VARY, "--work-dir", str(out)])
    return out, json.loads((out / "ablate.json").read_text())


def results(folder) -> dict:
    return json.loads((folder / "results.json").read_text())["metrics"]


def test_an_ablation_is_its_single_runs(root, path, done):
    out, record = done[0], copy.deepcopy(done[1])
    assert record["seeds"] == [0, 1] and record["metric"] == METRICS[0]
    assert [row["name"] for row in record["networks"]] == ["plain", "TD.distance=0", "TD.distance=1"]
    assert [row["options"] for row in record["networks"][1:]] == [{"TD.distance": "0"}, {"TD.distance": "1"}]
    for seed, distance in ((1, 0), (0, 1)):
        options = [f"randomness.seed={seed}", f"model.backbone.grafts.0.distance={distance}"]
        single = root / f"single{seed}"
        twin_path = small.dump_numbered(load_config(path), root, "single")
        train.main([twin_path, "--work-dir", str(single), "--cfg-options", *options])
        row = record["networks"][1 + distance]
        for name in METRICS:
            assert row["metrics"][name]["values"][seed] == results(single)[name]
        weights = torch.load(single / "epoch_2.pth", weights_only=False)["state_dict"]
        twin = torch.load(out / row["name"] / f"seed{seed}" / "epoch_2.pth", weights_only=False)["state_dict"]
        assert weights.keys() == twin.keys() and all(torch.equal(weights[k], twin[k]) for k in weights)
        sizes = [v.numel() for k, v in weights.items() if not k.endswith(("_mean", "_var", "_tracked"))]
        assert row["parameters"] == sum(sizes)
    for row in record["networks"]:
        for name in METRICS:
            values = [results(out / row["name"] / f"seed{seed}")[name] for seed in (0, 1)]
            assert row["metrics"][name].pop("values") == values
            mean, spread = sum(values) / 2, abs(values[0] - values[1]) / 2**0.5
            assert row["metrics"][name] == pytest.approx(dict(mean=mean, std=spread))
    assert any(row["metrics"][METRICS[0]]["std"] for row in record["networks"])


def test_an_ablation_keeps_what_is_finished(path, done, monkeypatch, capsys):
    out, record = done
    fit, trained = series.fit, []
    monkeypatch.setattr(series, "fit", lambda cfg, *_: trained.append(cfg.work_dir) or fit(cfg))
    again = out / "TD.distance=1" / "seed1"
    (again / "results.json").unlink()
    for name in ("ablate.png", "ablate.svg", "ablate.md"):
        assert (out / name).stat().st_size > 100
        (out / name).unlink()
    arguments = [path, *VARY, "--work-dir", str(out)]
    command.main(arguments)
    assert trained == [str(again)]
    assert json.loads((out / "ablate.json").read_text()) == record
    assert (out / "ablate.png").stat().st_size > 1000
    # A new value is a new network in the same folder; another metric needs no run.
    capsys.readouterr()
    more = ["--vary", "TD.distance=0,1", "--vary", "mode=joint", "--seeds", "1", "--metric", METRICS[1]]
    command.main([path, *more, "--work-dir", str(out)])
    assert [one.rpartition("/")[0].rpartition("/")[2] for one in trained[1:]] == [
        "TD.distance=0_TD.mode=joint", "TD.distance=1_TD.mode=joint",
    ]  # fmt: skip
    table = capsys.readouterr().out
    assert "| TD.distance | TD.mode |" in table and METRICS[1] in table and "(std)" not in table
    (out / "ablate.json").write_text(json.dumps(record))

    def complaint(*given) -> str:
        with pytest.raises(SystemExit, match="2"):
            command.main([*arguments, *given])
        return capsys.readouterr().err.splitlines()[-1]

    whole, huge = (again / "results.json").read_text(), '{"metrics": {"a": 1%s}}' % ("0" * 400)
    for damaged in (whole[:20], "[]", '{"metrics": []}', '{"metrics": {"a": [1]}}', "[1]", huge):
        (again / "results.json").write_text(damaged)
        assert f"{again / 'results.json'} is damaged: remove it and repeat the command" in complaint()
    (again / "results.json").write_text('{"metrics": {}}')
    assert f"{again / 'results.json'} has no metrics: its network found nothing" in complaint()
    (again / "results.json").write_text(whole)
    assert "has runs with another optim_wrapper in their config" in complaint(
        "--cfg-options", "optim_wrapper.optimizer.lr=0.5"
    )
    about = (out / "config.py").read_text()
    (out / "config.py").write_text(about[: about.index("[") + 1])
    said = complaint()
    assert "config.py can't be read" in said and f"remove {out}, or name another --work-dir" in said
    (out / "config.py").write_text(about)
    assert "--metric x is unknown; the validation has accuracy/top1, " in complaint("--metric", "x")
    assert len(trained) == 3


def test_an_unfinished_run_continues_where_it_stopped(path, root, done, monkeypatch):
    fit, epochs = series.fit, []

    def stop(cfg, *_):
        cfg.train_cfg.max_epochs = 1
        fit(cfg)
        raise Terminated

    def go_on(cfg, *_):
        epochs.append(torch.load(cfg.load_from, weights_only=False)["meta"]["epoch"])
        return fit(cfg)

    arguments = [path, "--seeds", "1", "--work-dir", str(root / "stopped")]
    monkeypatch.setattr(series, "fit", stop)
    with pytest.raises(SystemExit, match="143"):
        train.main(arguments)
    monkeypatch.setattr(series, "fit", go_on)
    train.main(arguments)
    ours, whole = root / "stopped" / "seed1", done[0] / "TD.distance=1" / "seed1"
    assert epochs == [1] and results(ours) == results(whole)
    weights, twin = (
        torch.load(folder / "epoch_2.pth", weights_only=False)["state_dict"] for folder in (ours, whole)
    )
    assert all(torch.equal(weights[key], twin[key]) for key in twin)


def test_a_stopped_study_says_how_to_continue(path, tmp_path, monkeypatch, capsys):
    def stop(cfg, *_):
        raise Terminated("saved interrupted.pth; repeat the command with --resume to continue")

    monkeypatch.setattr(series, "fit", stop)
    with pytest.raises(SystemExit, match="143"):
        command.main([path, "--vary", "TD.steps=2", "--work-dir", str(tmp_path / "a")])
    with pytest.raises(SystemExit, match="143"):
        train.main([path, "--seeds", "0", "--work-dir", str(tmp_path / "b")])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("terminated")]
    assert said == ["terminated: repeat the command to continue where it stopped"] * 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--vary", "TD.distanc=1"], "--vary TD.distanc: "),
        (["--vary", "TD.distance"], "--vary: expected KEY=V1,V2,..., got 'TD.distance'"),
        (["--vary", "TD.distance=1,3"], "TD.distance=3: the model of "),
        (["--vary", "TD.mode=joint,upwards"], "TD.mode=upwards: the model of "),
        (["--vary", "TD.mode=top", "--vary", "mode=joint"], "--vary TD.mode is given twice"),
        (["--vary", "train_cfg.max_epochs=1,0"], "train_cfg.max_epochs is 0"),
        (["--vary", "TD.steps=2", "--data-root", "nowhere"], "--data-root nowhere is not a folder"),
    ],
)
def test_mistakes_are_found_before_any_training(path, tmp_path, capsys, monkeypatch, given, said):
    monkeypatch.setattr(series, "fit", None)
    with pytest.raises(SystemExit, match="2"):
        command.main([path, *given, "--work-dir", str(tmp_path / "out")])
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_every_network_has_a_folder_of_its_own(path):
    cfg = load_config(path)
    words = ("a/b", "a-b", "a:b", "x" * 300, "x" * 301, "é" * 150)
    option = Options(cfg).find("load_from", (1, "1", None, "None", *words))
    folders = [variant.folder for variant in ablation.variants(cfg, [option])]
    assert len(set(folders)) == len(option.values)
    assert all(len(name.encode()) < 220 and "/" not in name for name in folders)


@pytest.mark.parametrize("tool", [["--seeds", "0"], ["--vary", "TD.steps=2"]])
def test_runs_that_cannot_be_compared(tool, path, root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(series, "fit", None)
    main = command.main if "--vary" in tool else train.main

    def complaint(*given) -> str:
        with pytest.raises(SystemExit, match="2"):
            main([path, *tool, "--work-dir", str(tmp_path), "--cfg-options", "log_level=INFO", *given])
        return capsys.readouterr().err.splitlines()[-1]

    assert "td.py continues another run" in complaint("resume=True", "load_from=x.pth")
    without = [f"val_{part}=None" for part in ("dataloader", "cfg", "evaluator")]
    assert "td.py has no val_dataloader" in complaint(*without)
    # A finished run, but of which config?
    run = tmp_path / ("TD.steps=2/seed0" if "--vary" in tool else "seed0")
    run.mkdir(parents=True)
    (run / "results.json").write_text(json.dumps({"config": path, "metrics": {METRICS[0]: 99.0}}))
    assert f"{run} may be a run of another config" in complaint()
    assert not (tmp_path / "config.py").exists()


def test_runs_share_the_metrics_that_all_have():
    found = series.summaries([{"a": 1.0, "b": 2.0}, {"a": 3.0}, {"a": 5.0, "c": 1.0}])
    assert found == {"a": {"mean": 3.0, "std": 2.0, "values": [1.0, 3.0, 5.0]}}


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["x.py"],
        ["x.py", "--vary", "a=1", "--preset", "tam-fig2"],
        ["--preset", "x"],
        ["x.py", "--seeds", "0"],
    ],
)
def test_command_lines_that_say_too_little_or_too_much(given):
    with pytest.raises(SystemExit, match="2"):
        command.parse_args(given)


def test_the_plain_network_needs_attention_to_leave_out(path):
    cfg = load_config(path)
    cfg.model.backbone = cfg.model.backbone.backbone
    with pytest.raises(UserError, match="has no attention to leave out"):
        ablation.variants(cfg, [], plain=True)


def test_seeds_make_a_table_of_mean_and_deviation(path, root, done, capsys, monkeypatch):
    _, record = done
    out = root / "seeds"
    capsys.readouterr()
    train.main([path, "--seeds", "1", "0", "--work-dir", str(out)])
    table = (out / "seeds.md").read_text()
    assert table in capsys.readouterr().out
    found = json.loads((out / "seeds.json").read_text())
    # The config's own network is the ablation's with m = 1.
    twin = record["networks"][2]["metrics"]
    for name in METRICS:
        values = twin[name]["values"][::-1]
        assert found["metrics"][name]["values"] == values
        row = next(line for line in table.splitlines() if name in line)
        assert f"| {statistics.mean(values):.2f} ({statistics.stdev(values):.2f}) |" in row
    assert found["seeds"] == [1, 0]

    trained, fit = [], series.fit
    monkeypatch.setattr(series, "fit", lambda cfg, *_: trained.append(cfg.work_dir) or fit(cfg))
    (out / "seed0" / "results.json").unlink()
    train.main([path, "--seeds", "1", "0", "--work-dir", str(out)])
    assert trained == [str(out / "seed0")]
    assert json.loads((out / "seeds.json").read_text()) == found
    wrong = [
        (["--seeds", "0", "0"], "a seed twice"),
        (["--seeds", "0", "--resume"], "leave --resume out"),
        (["--seeds", "-1"], "negative"),
        (["--seeds", str(2**32)], "randomness.seed is 4294967296"),
        (["--seeds", "0", "--cfg-options", "randomness.seed=1"], "leave it out"),
        (["--seeds", "0", "--cfg-options", "train_cfg.max_epochs=3"], "runs with another train_cfg"),
    ]
    for given, said in wrong:
        with pytest.raises(SystemExit, match="2"):
            train.main([path, "--work-dir", str(out), *given])
        assert said in capsys.readouterr().err.splitlines()[-1]


def test_shares_have_four_decimals_and_one_value_no_deviation():
    assert series.mean_and_std(series.summary([0.5, 0.7])) == "0.6000 (0.1414)"
    assert series.mean_and_std(series.summary([94.0, 95.0, 96.0])) == "95.00 (1.00)"
    assert series.mean_and_std(series.summary([94.0])) == "94.00"
    for undefined in (math.nan, math.inf):
        assert series.mean_and_std(series.summary([undefined, 94.0])) == f"{undefined} (nan)"
    assert series.mean_and_std(series.summary([math.inf, -math.inf])) == "nan (nan)"


def test_an_ablation_of_a_launchers_processes(path, tmp_path, monkeypatch):
    """One process joins its group once, for all networks."""
    if torch.cuda.is_available():
        pytest.skip("with a GPU the launcher is mmengine's own")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = dict(RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    for name, value in group.items():
        monkeypatch.setenv(name, str(value))
    flags = ["--launcher", "pytorch", "--work-dir", str(tmp_path / "out")]
    try:
        command.main([path, "--vary", "TD.steps=2,3", *flags, "--cfg-options", "train_cfg.max_epochs=1"])
    finally:
        torch.distributed.destroy_process_group()
    record = json.loads((tmp_path / "out" / "ablate.json").read_text())
    assert [row["name"] for row in record["networks"]] == ["TD.steps=2", "TD.steps=3"]


def test_the_first_process_alone_writes_the_shared_config(path, tmp_path, monkeypatch):
    cfg, out = load_config(path), tmp_path / "runs"
    for first in (False, True, True):
        monkeypatch.setattr(series, "is_main_process", lambda first=first: first)
        series.check_same(cfg, out, [])
        assert [path.name for path in out.iterdir()] == ["config.py"] * first


def study(name):
    preset = PRESETS[name]
    cfg = load_config(preset.config)
    options = [Options(cfg).find(*split_vary(text)) for text in preset.vary]
    return ablation.variants(cfg, options, preset.plain)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_options_of_its_config(name):
    plain, *others = study(name)
    assert plain.name == "plain"
    assert all(variant.chosen for variant in others)


@pytest.mark.whole
@pytest.mark.parametrize("name", PRESETS)
def test_every_network_of_a_preset_builds(name):
    sizes = {variant.name: ablation.parameters(variant) for variant in study(name)}
    assert all(size > 0 for size in sizes.values())


def test_presets_have_the_published_networks():
    sizes = {variant.name: variant for variant in study("td-fig7-left")}
    assert ablation.parameters(sizes["TD.distance=1_TD.mode=joint"]) == 27_645_992
    assert ablation.parameters(sizes["TD.distance=1_TD.mode=top"]) == 27_056_168
    assert ablation.parameters(sizes["plain"]) == 25_557_032
    assert ablation.parameters(study("tam-fig2")[1]) == 23_765_588
