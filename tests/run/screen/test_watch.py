"""The screen of a training and of a test, as a terminal and as a file get it."""

from __future__ import annotations

import io
import re
from typing import ClassVar

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, METRICS, MODELS
from small_network import Net
from torch.utils.data import DataLoader, Dataset, IterableDataset

from attn_mm.run.launch import build_runner
from attn_mm.run.screen import watch
from attn_mm.run.screen.watch import watching

STEPS = 12


class Constant(BaseMetric):
    default_prefix = "toy"

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {"accuracy": 62.5, "none_of_this_size": -1.0, "share": 0.25, "classes": ["a"]}


class Samples(Dataset):
    metainfo: ClassVar[dict] = {}

    def __len__(self):
        return 2 * STEPS

    def __getitem__(self, index):
        return dict(x=torch.full((2,), float(index)))


class Interrupt(Hook):
    def after_train_iter(self, runner, batch_idx, *_, **__):
        if runner.iter == STEPS:
            raise KeyboardInterrupt


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def registered():
    kinds = ((MODELS, Net), (METRICS, Constant), (DATASETS, Samples))
    for registry, kind in kinds:
        registry.register_module(module=kind, force=True)
    yield
    for registry, kind in kinds:
        registry.module_dict.pop(kind.__name__)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Train, or test, on a stream; returns what it showed and the runner."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("attn_mm.utils.progress.SHOWN_AFTER", 0)
    monkeypatch.setattr(watch, "_REFRESH", 0)
    data = dict(
        dataset=dict(type="Samples"),
        batch_size=2,
        sampler=dict(type="DefaultSampler", shuffle=False),
    )

    def run(stream, *hooks, train=True, verbose=False, **changes):
        monkeypatch.setattr("sys.stdout", stream)
        cfg = Config(dict(
            model=dict(type="Net"),
            work_dir=str(tmp_path),
            experiment_name=f"{tmp_path.name}{len(list(tmp_path.iterdir()))}",
            launcher="none",
            train_dataloader=data, train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=1e-4)),
            val_dataloader=data, val_evaluator=dict(type="Constant"), val_cfg=dict(),
            test_dataloader=data, test_evaluator=dict(type="Constant"), test_cfg=dict(),
            **changes,
        ), cfg_text="# toy", filename=str(tmp_path / "toy.py"))  # fmt: skip
        with watching(verbose) as screen:
            runner = build_runner(cfg, screen)
            for hook in hooks:
                runner.register_hook(hook)
            runner.train() if train else runner.test()
        return stream.getvalue(), runner

    return run


def test_a_terminal_gets_one_live_line(run):
    shown, runner = run(Terminal())
    # The live line is drawn again on itself.
    plain = re.sub(r"\x1b\[(\?25[lh]|[\d;]*m|1A)", "", shown)
    lines = [line for line in re.split(r"\r(?:\x1b\[2K)?|\n", plain) if line.strip()]
    live = [line for line in lines if "ETA" in line]
    assert len(live) > STEPS and plain.count("\n") < 20
    assert any(re.match(rf"training .* 5/{2 * STEPS} loss \d.* ETA", line) for line in live)
    assert any(re.match(rf"evaluating .* {STEPS - 1}/{STEPS} ", line) for line in live)
    kept = [line for line in lines if line not in live and not line.startswith("warning:")]
    assert not any("mmengine" in line or "lr" in line for line in kept)
    assert kept[:3] == [
        "  training  toy",
        f"     model  Net, {sum(p.numel() for p in runner.model.parameters())} parameters",
        f"      data  {2 * STEPS} samples of Samples, evaluated on {2 * STEPS}; {2 * STEPS} steps of 2",
    ]
    assert re.match(r"about \d+ s of training", kept[4])
    assert kept[5].split() == ["epoch", "loss", "accuracy", "share"]
    for epoch, row in enumerate(kept[6:], start=1):
        number, loss, *metrics = row.split()
        assert number == str(epoch) and float(loss) > 0 and metrics == ["62.500", "0.250"]
    assert len(kept) == 8


def test_the_log_file_has_everything(run):
    _, runner = run(io.StringIO())
    with open(runner.logger.log_file) as file:
        log = file.read()
    for text in ("System environment", "max_epochs", "Hooks will be executed", "Epoch(train)", "Epoch(val)"):
        assert text in log


def test_a_file_gets_lines_now_and_then(run, monkeypatch):
    shown, _ = run(io.StringIO())
    assert "\x1b" not in shown and "\r" not in shown
    assert not re.search(r"^training \d", shown, re.MULTILINE)
    monkeypatch.setattr("attn_mm.utils.progress.LINE_EVERY", 0)
    shown, _ = run(io.StringIO())
    assert re.search(rf"^training 5/{2 * STEPS}, loss \d", shown, re.MULTILINE)
    assert re.search(rf"^evaluating {STEPS}/{STEPS}", shown, re.MULTILINE)


def test_verbose_is_mmengines_own_screen(run):
    shown, _ = run(io.StringIO(), verbose=True)
    for text in ("System environment", "max_epochs", "Hooks will be executed", "Epoch(val)"):
        assert text in shown
    assert "steps of 2" not in shown


def test_the_terminal_is_as_before_after_ctrl_c(run):
    terminal = Terminal()
    with pytest.raises(KeyboardInterrupt):
        run(terminal, Interrupt())
    shown = terminal.getvalue()
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor stays hidden"


def test_a_resumed_training_begins_where_it_stopped(run, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(Terminal(), Interrupt(), default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1)))
    monkeypatch.setattr("attn_mm.utils.progress.LINE_EVERY", 0)
    shown, _ = run(io.StringIO(), resume=True)
    assert "resumed epoch: 1" in shown
    steps = re.findall(rf"^training (\d+)/{2 * STEPS}", shown, re.MULTILINE)
    assert steps[0] == str(STEPS + 1) and steps[-1] == str(2 * STEPS)


def test_what_is_said_after_a_run_begins_a_line(capsys):
    with watching():
        print("a hook's words", end="")
    print("work_dirs/a")
    assert capsys.readouterr().out == "a hook's words\nwork_dirs/a\n"


def test_only_the_first_process_shows_anything(run, monkeypatch):
    monkeypatch.setattr(watch, "is_main_process", lambda: False)
    monkeypatch.setattr("attn_mm.run.screen.messages.get_rank", lambda: 1)
    monkeypatch.setattr("attn_mm.utils.progress.LINE_EVERY", 0)
    assert run(io.StringIO())[0] == ""


def test_a_stream_of_samples_has_no_number():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([1])

    assert watch._samples(DataLoader(Stream())) == "samples of Stream"
    assert watch._samples(DataLoader(Samples())) == f"{2 * STEPS} samples of Samples"


def test_a_test_has_a_bar(run, monkeypatch):
    monkeypatch.setattr("attn_mm.utils.progress.LINE_EVERY", 0)
    shown, _ = run(io.StringIO(), train=False)
    assert shown.startswith("   testing  toy\n") and f"testing {STEPS}/{STEPS}" in shown
