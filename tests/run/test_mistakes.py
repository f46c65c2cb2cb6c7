"""An error in a part of a run that never worked is one line; a later one is a bug."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from attn_mm.errors import UserError
from attn_mm.run.mistakes import mistakes_of


def failing(events, error):
    """Raise an error after these events of a run."""
    with mistakes_of(Config({}, filename=__file__)) as progress:
        runner = SimpleNamespace(epoch=events.count("after_train_epoch"))
        for event in events:
            getattr(progress, event)(runner)
        raise error


@pytest.mark.parametrize(
    ("events", "part"),
    [
        ([], "start"),
        (["before_train_iter"], "first training step"),
        (["before_train_iter", "after_train_iter", "after_train_epoch"], "end of the first epoch"),
        (["before_train_iter", "after_train_iter", "before_val_epoch"], "first validation"),
        (["before_test_epoch"], "test"),
    ],
)
def test_what_never_worked_is_the_configs_fault(events, part):
    with pytest.raises(UserError, match=rf"the {part} of \S+ fails: ValueError: five is not four"):
        failing(events, ValueError("five is not four"))


@pytest.mark.parametrize(
    ("events", "error"),
    [
        (["before_train_iter", "after_train_iter"], ValueError),
        (["before_train_iter", "after_train_iter", "before_train_iter"], ValueError),
        (["before_val_epoch", "after_val_epoch", "before_val_epoch"], ValueError),
        ([], MemoryError),
        (["before_train_iter"], torch.OutOfMemoryError),
    ],
)
def test_a_bug_stays_one(events, error):
    with pytest.raises(error):
        failing(events, error())


def test_a_full_disk_is_not_the_configs_fault():
    with pytest.raises(OSError, match="full"):
        failing([], OSError(errno.ENOSPC, "full"))
    with pytest.raises(UserError, match="No such file: 'x'"):
        failing([], FileNotFoundError(errno.ENOENT, "No such file", "x"))
