"""A run that was killed, stopped or left with damaged files continues with the same results."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import shutil
import sys
import time
from pathlib import Path

import pytest
import small
import torch
from mmengine.config import Config

from attn_mm.compat.checkpoints import load_checkpoint_file
from attn_mm.errors import UserError
from attn_mm.run import train
from attn_mm.run.resume import last_checkpoint, resume_from
from attn_mm.utils import files
from attn_mm.utils.locks import sole_user

pytest.importorskip("mmdet")

EPOCHS = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    small.write_annotations(root, small.coco_set(root))
    return root


@pytest.fixture(scope="module")
def config(data):
    """A small detector, trained with flips; the checkpoint of an epoch replaces that of the previous one."""
    cfg = small.detection_config(data)
    cfg.train_cfg.update(max_epochs=EPOCHS, val_interval=EPOCHS)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    return small.dump(cfg, data / "config.py")


def run_in_child(config, folder, *args, before=lambda: None):
    """Start a training in a copy of this process, which has imported what it needs."""

    def target():
        with open(folder.parent / "log", "a", buffering=1) as log:
            sys.stdout = sys.stderr = log
            before()
            train.main([config, "--work-dir", str(folder), *args])

    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    return process


def finished(process):
    process.join(120)
    return process.exitcode


def weights(folder):
    return load_checkpoint_file(folder / f"epoch_{EPOCHS}.pth")["state_dict"]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def uninterrupted(config, tmp_path_factory):
    """The final weights of a run in this process, whose copies then need no imports, and its seconds."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmengine.config.config.FormatCode", lambda text, **_: (text, False))
        patch.setattr("mmengine.runner.runner.collect_env", dict)
        train.main([config, "--work-dir", str(folder), "--cfg-options", "randomness.seed=1"])
        yield weights(folder)


def full_disk():
    def fsync(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files.os.fsync = fsync


def slow_disk():
    """Let writes take so long that kills meet them."""
    flush = os.fsync

    def fsync(descriptor):
        time.sleep(0.1)
        flush(descriptor)

    files.os.fsync = fsync


def is_saving(folder):
    return any(folder.glob(".*.pth.*"))


def wait_for(condition, process):
    end = time.monotonic() + 60
    while process.is_alive() and time.monotonic() < end and not condition():
        time.sleep(0.005)


def epoch_of(folder):
    return max((int(path.stem[len("epoch_") :]) for path in folder.glob("epoch_*.pth")), default=0)


@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=pytest.mark.whole)])
def test_kills(config, uninterrupted, tmp_path, kills):
    """Every second kill comes while a checkpoint is saved, the others any time after a random one."""
    folder = tmp_path / "run"
    chance = random.Random(kills)
    kill = during_saves = finished_runs = 0
    options = ["--resume", "--cfg-options", "randomness.seed=1"]
    while kill < kills:
        goal = epoch_of(folder) + (kill if kills == 2 else chance.choice((0, 0, 1, 2)))
        process = run_in_child(config, folder, *options, before=slow_disk)
        wait_for(lambda goal=goal: epoch_of(folder) >= goal, process)
        if kill % 2:
            wait_for(lambda: is_saving(folder), process)
        else:
            time.sleep(chance.uniform(0, 2))
        saved = epoch_of(folder)
        saving = is_saving(folder)
        process.kill()
        process.join()
        # What has been saved before is never lost.
        assert epoch_of(folder) >= saved
        if process.exitcode == 0:
            finished_runs += 1
            assert same(weights(folder), uninterrupted)
            shutil.rmtree(folder)
        else:
            kill += 1
            during_saves += saving
    assert finished(run_in_child(config, folder, *options)) == 0
    assert same(weights(folder), uninterrupted)
    assert during_saves > 0
    print(f"{kills} kills, {during_saves} of them during a save; {finished_runs + 1} runs came to their end")


def last_line(folder):
    return (folder.parent / "log").read_text().splitlines()[-1]


def test_sigterm_saves_in_the_middle_of_an_epoch(config, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    options = ["--cfg-options", "randomness.seed=1"]
    process = run_in_child(config, folder, *options, before=slow_disk)
    # While it saves, its next step is the second epoch's first.
    wait_for(lambda: is_saving(folder), process)
    process.terminate()
    assert finished(process) == 143
    saved = folder / "interrupted.pth"
    assert last_line(folder) == f"terminated: saved {saved}; repeat the command with --resume to continue"
    assert load_checkpoint_file(saved)["meta"]["iter"] == 4
    assert finished(run_in_child(config, folder, "--resume", *options)) == 0
    assert same(weights(folder), uninterrupted) and not saved.exists()


def test_a_second_run_is_refused(config, uninterrupted, tmp_path, capsys):
    folder = tmp_path / "run"
    process = run_in_child(config, folder, before=slow_disk)
    wait_for(lambda: is_saving(folder), process)
    with pytest.raises(SystemExit, match="2"):
        train.main([config, "--work-dir", str(folder)])
    assert f"{folder} is in use by process {process.pid} on" in capsys.readouterr().err
    process.kill()
    process.join()
    with sole_user(folder, "--work-dir"):
        pass


def test_a_full_disk_keeps_the_last_checkpoint(config, uninterrupted, tmp_path):
    folder = tmp_path / "run"

    assert finished(run_in_child(config, folder, "--cfg-options", "train_cfg.max_epochs=1")) == 0
    before = (folder / "epoch_1.pth").read_bytes()
    assert finished(run_in_child(config, folder, "--resume", before=full_disk)) == 2
    assert last_line(folder) == f"error: {folder / 'epoch_2.pth'} can't be written (No space left on device)"
    assert (folder / "epoch_1.pth").read_bytes() == before
    assert [path.name for path in folder.glob("*epoch_2*")] == []


@pytest.fixture
def work_dir(tmp_path):
    """Checkpoints of two epochs, named in the order of their saving, and the best one."""
    for index, name in enumerate(("epoch_1", "epoch_2", "best_accuracy")):
        hub = {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}}
        content = {"state_dict": {"w": torch.ones(1)}, "message_hub": hub, "optimizer": {}}
        content["meta"] = {"epoch": index + 1, "iter": 3, "seed": 40 + index}
        if name.startswith("best"):
            del content["optimizer"]
        torch.save(content, tmp_path / f"{name}.pth")
        os.utime(tmp_path / f"{name}.pth", (index, index))
    return tmp_path


def chosen(folder):
    cfg = Config({"work_dir": str(folder)})
    resume_from(cfg)
    return cfg.resume and Path(cfg.load_from).name, cfg.get("randomness")


@pytest.mark.parametrize("name", [None, "", "\0\xff", "epoch_7.pth", "."])
def test_without_a_usable_last_checkpoint_the_newest_is_taken(work_dir, capsys, name):
    if name is not None:
        (work_dir / "last_checkpoint").write_text(name, encoding="latin-1")
    assert chosen(work_dir) == ("epoch_2.pth", {"seed": 41})
    said = capsys.readouterr().out
    assert "last_checkpoint" in said and f"continuing from {work_dir / 'epoch_2.pth'}" in said


def test_a_truncated_checkpoint_is_passed_over(work_dir, capsys):
    newest = work_dir / "epoch_2.pth"
    (work_dir / "last_checkpoint").write_text(str(newest))
    assert chosen(work_dir) == ("epoch_2.pth", {"seed": 41}) and capsys.readouterr().out == ""
    newest.write_bytes(newest.read_bytes()[:-200])
    assert chosen(work_dir) == ("epoch_1.pth", {"seed": 40})
    said = capsys.readouterr().out
    assert f"cannot read checkpoint {newest}" in said and "continuing from" in said
    (work_dir / "epoch_1.pth").write_bytes(b"")
    (work_dir / "last_checkpoint").unlink()
    with pytest.raises(UserError, match=r"no checkpoint in .* can be resumed: cannot read checkpoint"):
        chosen(work_dir)


def test_weights_alone_are_not_resumed(work_dir):
    with pytest.raises(
        UserError, match=r"best_accuracy.pth can't be resumed, it has no optimizer: train from"
    ):
        resume_from(Config({"work_dir": str(work_dir)}), str(work_dir / "best_accuracy.pth"))


def test_an_empty_work_dir_starts_anew(tmp_path, capsys):
    assert chosen(tmp_path) == (False, None)
    assert "the run starts anew" in capsys.readouterr().out


def test_the_name_of_the_last_checkpoint_is_that_of_its_file(tmp_path):
    assert last_checkpoint(tmp_path) == ""
    path = tmp_path / "w\u00f6rk" / "epoch_1.pth"
    path.parent.mkdir()
    path.touch()
    (tmp_path / "last_checkpoint").write_bytes(os.fsencode(path) + b"\n")
    assert last_checkpoint(tmp_path) == str(path)
