"""mmengine's checkpoint hook deletes nothing but its own checkpoints, whatever a checkpoint names."""

from __future__ import annotations

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.runner import Runner
from small_network import Net


class Accuracy(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return {"accuracy": 1.0}


def runner(folder, epochs=2, **options):
    loader = dict(
        dataset=[dict(x=torch.ones(2)) for _ in range(2)],
        batch_size=2,
        sampler=dict(type="DefaultSampler", shuffle=False),
    )
    hook = dict(
        type="CheckpointHook",
        interval=1,
        max_keep_ckpts=1,
        save_best="accuracy",
        rule="greater",
        filename_tmpl="{}",
        out_dir=str(folder),
    )
    return Runner(
        model=Net(),
        work_dir=str(folder / "run"),
        experiment_name=f"run_{id(options)}",
        train_dataloader=dict(loader),
        val_dataloader=dict(loader),
        val_evaluator=[Accuracy()],
        val_cfg=dict(),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
        default_hooks=dict(checkpoint=hook),
        log_level="ERROR",
        **options,
    )


@pytest.mark.parametrize("key", ["best_ckpt", "keep_ckpt_ids"])
@pytest.mark.parametrize("folder", [False, True])
def test_a_checkpoint_names_no_file_to_delete(tmp_path, key, folder):
    victim = tmp_path / "precious.pth"
    victim.mkdir() if folder else victim.touch()
    runner(tmp_path, epochs=1).train()
    saved = torch.load(tmp_path / "run" / "1")
    info = saved["message_hub"]["runtime_info"]
    info.update(
        {"best_ckpt": str(victim), "best_score": 0.5}
        if key == "best_ckpt"
        else {"keep_ckpt_ids": [str(victim), 1]}
    )
    torch.save(saved, tmp_path / "odd.pth")
    runner(tmp_path, load_from=str(tmp_path / "odd.pth"), resume=True).train()
    assert victim.exists() and (tmp_path / "run" / "2").exists()


def test_its_own_are_deleted(tmp_path):
    runner(tmp_path, epochs=3).train()
    names = {path.name for path in (tmp_path / "run").iterdir() if path.is_file()}
    assert {"3", "best_accuracy_1"} <= names and not {"1", "2", "best_accuracy_2"} & names
