"""A diverged training saves nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from attn_mm.errors import UserError
from attn_mm.run.finite_weights import FiniteWeights


class Net(BaseModel):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))

    def forward(self, x):
        return self.norm(x)


@pytest.mark.parametrize(
    ("name", "value"), [("weight", "nan"), ("bias", "inf"), ("running_var", "nan"), (None, None)]
)
def test_what_cannot_be_resumed_is_not_saved(name, value):
    model = Net()
    hook, runner = FiniteWeights(), SimpleNamespace(model=model, iter=4)
    if name is None:
        hook.before_save_checkpoint(runner, {})
        return
    getattr(model.norm, name).data[1] = float(value)
    with pytest.raises(UserError, match=rf"after step 5, 1 of 3 numbers in norm.{name} are NaN or infinite"):
        hook.before_save_checkpoint(runner, {})
