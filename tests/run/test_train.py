"""``tools/train.py`` and ``tools/test.py`` as a user runs them, on networks small enough for a test."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time

import pytest
import torch

from attn_mm.compat.checkpoints import load_checkpoint_file
from attn_mm.run import test, train

SMALL_FCOS = [
    "model.backbone.backbone.depth=18",
    "model.backbone.backbone.base_channels=8",
    "model.neck.in_channels=[8,16,32,64]",
    "model.neck.out_channels=16",
    "model.bbox_head.in_channels=16",
    "model.bbox_head.feat_channels=64",
    "model.bbox_head.stacked_convs=1",
    "model.test_cfg.score_thr=0.0",
]
CONFIG = "configs/fcos_tdaf_r50.py"


def start(repo, tool, *args, **env):
    command = [sys.executable, repo / "tools" / tool, *map(str, args)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    return subprocess.Popen(
        command, cwd=repo, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(repo, tool, *args, **env):
    process = start(repo, tool, *args, **env)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def test_demo_trains_evaluates_and_shows(repo, tmp_path, monkeypatch):
    options = [*SMALL_FCOS, "train_cfg.max_epochs=1", "train_dataloader.dataset.indices=16"]
    code, output = run(
        repo, "train.py", CONFIG, "--demo", "--work-dir", tmp_path, "--cfg-options", *options,
        "val_dataloader.dataset.indices=8",
    )  # fmt: skip
    assert code == 0, output
    assert len(output.splitlines()) <= 40 and "mmengine" not in output
    (log,) = tmp_path.glob("*/*.log")
    kept = log.read_text()
    for text in ("System environment:", "Hooks will be executed", "eta:", "Average Precision"):
        assert text in kept and text not in output
    results = json.loads((tmp_path / "results.json").read_text())
    assert "coco/bbox_mAP_50" in results["metrics"] and results["epoch"] == 1
    assert len(list((tmp_path / "pictures").glob("*.jpg"))) == 6
    assert len(list((tmp_path / "pictures/attention").glob("*.jpg"))) == 6
    summary = output[output.index("held-out images") :]
    for thing in ("bbox_mAP_50", "epoch_1.pth", "pictures", "attention", "results.json"):
        assert thing in summary

    again = tmp_path / "again"
    monkeypatch.chdir(repo)
    test.main([
        CONFIG, str(tmp_path / "epoch_1.pth"), "--demo", "--work-dir", str(again), "--out",
        str(again / "predictions.pkl"), "--cfg-options", *SMALL_FCOS, "test_dataloader.dataset.indices=8",
    ])  # fmt: skip
    tested = json.loads((again / "test_results.json").read_text())
    assert tested["metrics"] == results["metrics"]
    assert tested["checkpoint"] == str(tmp_path / "epoch_1.pth")
    assert (again / "predictions.pkl").stat().st_size > 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nowhere.py"], "config nowhere.py does not exist"),
        ([CONFIG, "--data-root", "nowhere"], "--data-root nowhere is not a folder"),
        ([CONFIG, "--demo", "--data-root", "."], "--demo generates its own data set"),
        ([CONFIG, "--demo", "--resume", "nowhere.pth"], "checkpoint nowhere.pth does not exist"),
        ([CONFIG, "--demo", "--amp"], "--amp needs a CUDA device"),
    ],
)
def test_mistakes_are_one_line_and_status_2(repo, tmp_path, args, said, capsys, monkeypatch):
    monkeypatch.chdir(repo)
    with pytest.raises(SystemExit) as stopped:
        train.main([*args, "--work-dir", str(tmp_path)])
    assert stopped.value.code == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith(f"error: {said}")


def test_an_impossible_model_is_one_line(repo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(repo)
    with pytest.raises(SystemExit) as stopped:
        options = ["--cfg-options", "model.backbone.flows=9"]
        train.main([CONFIG, "--demo", "--work-dir", str(tmp_path), *options])
    assert stopped.value.code == 2
    assert "flows must be a whole number in 2..4" in capsys.readouterr().err.splitlines()[-1]


def test_a_mistake_leaves_no_traceback_in_the_shell(repo):
    code, output = run(repo, "test.py", CONFIG, "nowhere.pth")
    assert code == 2
    assert output.splitlines()[-1] == "error: checkpoint nowhere.pth does not exist"


TWO_PROCESSES = [
    *SMALL_FCOS, "train_cfg.max_epochs=1", "train_dataloader.dataset.indices=16",
    "val_dataloader.dataset.indices=6",
]  # fmt: skip


def one_of_two(rank, port, repo, folder):
    """A process as the launcher starts it, but for the imports, which it inherits."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with open(folder / f"{rank}.txt", "w") as output:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(output.fileno(), stream.fileno())
    os.chdir(repo)
    own = ["--work-dir", str(folder / "work"), "--launcher", "pytorch", "--cfg-options"]
    train.main([CONFIG, "--demo", *own, *TWO_PROCESSES])


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the launcher is mmengine's own")
def test_two_processes_train_without_a_gpu(repo, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    processes = [
        fork.Process(target=one_of_two, args=(rank, port, repo, tmp_path), daemon=True) for rank in range(2)
    ]
    for process in processes:
        process.start()
    try:
        until = time.monotonic() + 300
        # One that failed leaves the other waiting for it.
        while any(process.exitcode is None for process in processes) and time.monotonic() < until:
            if any(process.exitcode for process in processes):
                break
            time.sleep(0.2)
    finally:
        for process in processes:
            process.kill()
            process.join()
    output = "".join((tmp_path / f"{rank}.txt").read_text() for rank in range(2))
    assert [process.exitcode for process in processes] == [0, 0], output
    assert_trained_by_two(tmp_path / "work", output)


def test_the_launcher_starts_two_processes_of_the_training(repo, tmp_path):
    torchrun = tmp_path / "torchrun"
    torchrun.write_text('#!/bin/sh\necho "$@"\n')
    torchrun.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "tools/dist_train.sh", CONFIG, "2", "--demo"]
    given = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True, check=True).stdout
    script = f"tools/train.py {CONFIG} --launcher pytorch --demo"
    assert given.split() == ["--standalone", "--nproc_per_node=2", *script.split()]


@pytest.mark.whole
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the launcher is mmengine's own")
def test_the_launcher_trains_without_a_gpu(repo, tmp_path):
    launcher = ["bash", "tools/dist_train.sh", CONFIG, "2", "--demo", "--work-dir", str(tmp_path)]
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    done = subprocess.run(
        [*launcher, "--cfg-options", *TWO_PROCESSES],
        cwd=repo,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_trained_by_two(tmp_path, done.stdout + done.stderr)


def assert_trained_by_two(work_dir, output):
    assert output.count("16 samples of CocoDataset") == 1
    (log,) = work_dir.glob("*/*.log")
    assert "MMDistributedDataParallel" in log.read_text()
    weights = load_checkpoint_file(work_dir / "epoch_1.pth")["state_dict"]
    # Both halves of each batch have counted: 16 images, two processes, 8 a step.
    assert weights["backbone.layer1.0.bn1.num_batches_tracked"].tolist() == [1, 1, 1]
    assert json.loads((work_dir / "results.json").read_text())["epoch"] == 1


def test_no_network_names_the_way_out(repo, coco_tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(repo)
    for name in ("https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("MMENGINE_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    started = time.monotonic()
    with pytest.raises(SystemExit) as stopped:
        train.main([CONFIG, "--data-root", str(coco_tiny), "--work-dir", str(tmp_path)])
    assert stopped.value.code == 2
    assert "--no-pretrained" in capsys.readouterr().err.splitlines()[-1]
    assert time.monotonic() - started < 120
