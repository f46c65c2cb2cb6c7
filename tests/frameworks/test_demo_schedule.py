"""The schedule that all demos share."""

import pytest
from mmengine.config import Config

from attn_mm.frameworks.demo_schedule import set_schedule


@pytest.mark.parametrize(("epochs", "middle"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_evaluation_in_the_middle_and_at_the_end(epochs, middle):
    cfg = Config(dict(default_hooks=dict(logger=dict())))
    set_schedule(cfg, epochs, lr=1e-3)
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval == middle
