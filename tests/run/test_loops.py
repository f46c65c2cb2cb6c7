"""What a resumed training continues beside the weights, and what it says that it doesn't."""

from __future__ import annotations

import torch
from mmengine.evaluator import BaseMetric
from small_network import Net

from attn_mm.run.runner import ResumableRunner


class Accuracy(BaseMetric):
    """The same in each evaluation."""

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return {"accuracy": 1.0}


def train(work_dir, epochs, workers=0, **options):
    loader = dict(
        dataset=[dict(x=torch.ones(2))] * 2,
        batch_size=2,
        sampler=dict(type="DefaultSampler", shuffle=False),
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    runner = ResumableRunner(
        model=Net(),
        work_dir=str(work_dir),
        experiment_name=f"{work_dir.name}_{epochs}_{workers}",
        train_dataloader=loader,
        val_dataloader=dict(loader),
        val_evaluator=[Accuracy()],
        val_cfg=dict(),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
        custom_hooks=[dict(type="EarlyStoppingHook", monitor="accuracy", rule="greater", patience=3)],
        **options,
    )
    runner.train()
    return runner


def test_early_stopping_continues_its_count(tmp_path):
    assert train(tmp_path / "whole", 10).epoch == 4
    train(tmp_path / "parts", 3)
    saved = str(tmp_path / "parts" / "epoch_3.pth")
    assert train(tmp_path / "parts", 10, load_from=saved, resume=True).epoch == 4


def test_persistent_workers_are_told_of(tmp_path, capsys):
    train(tmp_path, 1, workers=1)
    assert "persistent_workers=True" not in capsys.readouterr().out
    train(tmp_path, 2, workers=1, load_from=str(tmp_path / "epoch_1.pth"), resume=True)
    assert "persistent_workers=True: the random numbers" in capsys.readouterr().out
