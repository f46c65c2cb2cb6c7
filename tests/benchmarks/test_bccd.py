"""The benchmark on blood cells: one recipe for all networks, and a table that says how sure it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mmengine.config import Config

pytest.importorskip("mmdet")


@pytest.fixture
def bccd(importable, monkeypatch):
    from benchmarks import bccd

    def plain_config(data, folder, epochs):
        from attn_mm.utils.config import load_config

        cfg = load_config("configs/tdaf/fcos-r50_plain_coco.py")
        cfg.model.backbone.update(depth=18)
        cfg.model.neck.in_channels = [64, 128, 256, 512]
        return cfg

    monkeypatch.setattr(bccd, "plain_config", plain_config)
    return bccd


def test_networks_differ_in_their_grafts_alone(bccd):
    plain = bccd.plain_config(None, None, 2)
    configs = {name: bccd.run_config(plain, name, "test", 4, 1e-3) for name in bccd.NETWORKS}
    own = configs["plain"].model.backbone
    assert own.depth == 18 and own.init_cfg is None and own.frozen_stages == -1
    for name, cfg in configs.items():
        if name != "plain":
            assert cfg.model.backbone.backbone == own and cfg.model.backbone.grafts
            cfg.model.backbone = own
        assert cfg.to_dict() == configs["plain"].to_dict()
    assert (
        cfg.val_dataloader == cfg.test_dataloader and cfg.train_cfg.val_interval == cfg.train_cfg.max_epochs
    )


def test_counts_parameters(bccd):
    plain = bccd.plain_config(None, None, 2)
    of = [bccd.parameters(bccd.run_config(plain, name, "test", 4, 1e-3)) for name in ("plain", "SE")]
    # Two layers of C * C / 16 weights in each of two blocks of a stage.
    assert of[1] - of[0] == sum(4 * width**2 // 16 for width in (64, 128, 256, 512))


def test_the_table_and_what_is_kept(bccd, tmp_path, capsys, monkeypatch):
    seeds_seen = []

    def trained(cfg, folder, seed, threads, processes):
        seeds_seen.append(seed)
        gain = 0.02 * ("grafts" in cfg.model.backbone) * (1 + seed)
        return {"coco/bbox_mAP": 0.3 + gain, "coco/bbox_mAP_50": 0.5}

    monkeypatch.setattr(bccd, "trained", trained)
    monkeypatch.setattr(bccd, "parameters", lambda cfg: 10)
    flags = ["--data", str(tmp_path), "--work-dir", str(tmp_path / "out"), "--networks", "plain", "SE"]
    bccd.main([*flags, "--seeds", "0", "1"])
    assert seeds_seen == [0, 0, 1, 1]
    cases = json.loads((tmp_path / "out" / "bccd.json").read_text())["cases"]
    assert set(cases) == {"plain 0", "plain 1", "SE 0", "SE 1"}
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| SE"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["SE", "10", "33.00 (1.41)", "50.00 (0.00)", "2", "+3.00", "0.205"]
    assert (tmp_path / "out" / "bccd.png").stat().st_size > 5000
    bccd.main([*flags, "--seeds", "0", "1"])
    assert len(seeds_seen) == 4


def test_another_recipe_is_refused(bccd, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bccd, "trained", lambda *_: dict.fromkeys(bccd.METRICS.values(), 0.5))
    monkeypatch.setattr(bccd, "parameters", lambda cfg: 10)
    flags = ["--data", str(tmp_path), "--work-dir", str(tmp_path / "out"), "--networks", "plain"]
    bccd.main(flags)
    for changed, said in (
        (["--epochs", "3"], "epochs"),
        (["--data", "nowhere"], "nowhere is not a folder"),
        (["--data", __file__], "is not a folder"),
        (["--networks", "SE", "SE"], "--networks names one twice"),
        (["--seeds", "1", "0", "1"], "--seeds names one twice"),
        (["--at-once", "0"], "--at-once: 0 is not positive"),
    ):
        with pytest.raises(SystemExit) as stopped:
            bccd.main([*flags, *changed])
        assert stopped.value.code == 2 and said in capsys.readouterr().err


def test_a_folder_keeps_its_recipe_if_no_training_ends(bccd, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bccd, "trained", lambda *_: bccd.read_metrics(tmp_path / "missing.json"))
    flags = ["--data", str(tmp_path), "--work-dir", str(tmp_path / "out"), "--networks", "plain"]
    for changed, said in (([], "missing.json can't be read"), (["--lr", "0.5"], "lr 0.001, now 0.5")):
        with pytest.raises(SystemExit):
            bccd.main([*flags, *changed])
        assert said in capsys.readouterr().err


def test_another_process_in_the_folder(bccd, tmp_path, capsys):
    hold = "import fcntl; f = open('.lock', 'a+'); fcntl.lockf(f, fcntl.LOCK_EX); print(); input()"
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-Sc", hold], cwd=tmp_path, **pipes) as other:
        other.stdout.readline()
        with pytest.raises(SystemExit):
            bccd.main(["--data", str(tmp_path), "--work-dir", str(tmp_path)])
        other.communicate(b"\n")
    assert f"{tmp_path} is in use by another process" in capsys.readouterr().err


def test_the_same_data_by_another_path(importable, tmp_path):
    from benchmarks import bccd

    (tmp_path / "data").mkdir()
    (tmp_path / "plain.py").write_text(f"root = '{tmp_path / 'data'}/'\n")
    assert bccd.plain_config(tmp_path / "data/../data", tmp_path, 2).root == f"{tmp_path / 'data'}/"
    with pytest.raises(bccd.UserError, match="name another --work-dir"):
        bccd.plain_config(tmp_path, tmp_path, 2)


@pytest.fixture
def instead_of_training(tmp_path, monkeypatch):
    """A function that lets a shell script run instead of attn-mm train: $6 is the work dir, $8 the seed."""

    def put(script):
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    return put


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo epoch 1; echo error: the disk is full; exit 2", r"see .*/seed3.log: the disk is full"),
        ("exit 7", "see .*: status 7"),
        ("echo '{\"metrics\": {}}'", "results.json has no metrics: its network found nothing"),
        ("echo '{\"metr'", "results.json is damaged: remove it"),
        ('echo \'{"metrics": {"loss": 1}}\'', "has no coco/bbox_mAP and coco/bbox_mAP_50"),
    ],
)
def test_a_training_without_a_result(bccd, tmp_path, instead_of_training, script, said):
    instead_of_training(f"mkdir -p $6/seed$8; ({script}) | tee $6/seed$8/results.json; {script} > /dev/null")
    with pytest.raises(bccd.UserError, match=said):
        bccd.trained(Config(), tmp_path, 3, 1, bccd.Processes())


def test_stops_its_trainings(bccd, tmp_path, capsys, instead_of_training):
    instead_of_training("trap 'touch $6/stopped; exit 143' TERM; sleep 30 & touch $6/started; wait")

    def stop():
        while len(list(tmp_path.rglob("started"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    flags = ["--data", str(tmp_path), "--work-dir", str(tmp_path), "--networks", "plain", "--at-once", "2"]
    before = time.monotonic()
    with pytest.raises(SystemExit) as stopped:
        bccd.main(flags)
    thread.join()
    assert stopped.value.code == 143 and time.monotonic() - before < 20
    assert "repeat the command to continue" in capsys.readouterr().err
    assert {path.parent.name for path in tmp_path.rglob("stopped")} == {"0", "1"}
    assert not Path(tmp_path, "plain", "2").exists()
