"""SIGTERM during a training with mmengine's loops and with a config's own."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from attn_mm.errors import reports_user_errors
from attn_mm.run.runner import INTERRUPTED, ResumableRunner


class Net(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x, mode="tensor"):
        return dict(loss=self.layer(torch.stack(list(x))).square().mean())


class OwnLoop(EpochBasedTrainLoop):
    pass


class Terminate(Hook):
    def before_train_iter(self, runner, *_, **__):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("own", [False, True])
def test_sigterm_saves_or_ends_the_run_at_once(tmp_path, capsys, own):
    runner = ResumableRunner(
        model=Net(),
        work_dir=str(tmp_path),
        experiment_name=f"{tmp_path.name}_{own}",
        train_dataloader=dict(
            dataset=[dict(x=torch.ones(2))], batch_size=1, sampler=dict(type="DefaultSampler", shuffle=False)
        ),
        train_cfg=dict(max_epochs=2, **(dict(type=OwnLoop) if own else dict(by_epoch=True))),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
        log_level="ERROR",
    )
    runner.register_hook(Terminate())
    with pytest.raises(SystemExit, match="143"):
        reports_user_errors(runner.train)()
    assert ("--resume" in capsys.readouterr().err) != own
    assert (tmp_path / INTERRUPTED).exists() != own
