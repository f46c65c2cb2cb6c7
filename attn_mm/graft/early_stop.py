"""Top-down feedback stopped early: what a network says at each of its computation steps.

Jaiswal, Fernando & Tan, TDAM, ECCV 2022 (https://arxiv.org/abs/2111.13470), figure 6 and section 4.1, speak
of a network's attention and prediction at each step. In the authors' released code these are what the
network gives when the blocks of its last stage stop after that step; the stages before run all theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from attn_mm.graft.blocks import FeedbackMixin
from attn_mm.layers.ops.execution import no_replays


def last_feedback(model: nn.Module) -> list[FeedbackMixin]:
    """The blocks with feedback in the last stage that has any; an empty list where there is none."""
    backbone = getattr(model, "backbone", model)
    found = {name: block for name, block in backbone.named_modules() if isinstance(block, FeedbackMixin)}
    # A stage is a sequence of blocks.
    stages = [name.rpartition(".")[0] for name in found]
    return [block for block, stage in zip(found.values(), stages) if stage == stages[-1]]


def feedback_steps(model: nn.Module) -> int:
    """T, the steps of the last stage with feedback; 1 of a network without any."""
    return max((len(block.td.norms) + 1 for block in last_feedback(model)), default=1)


@contextmanager
def stopped_after(model: nn.Module, step: int) -> Iterator[None]:
    """Let the blocks of :func:`last_feedback` stop after ``step``, from 1, while the context lasts.

    Raises:
        ValueError: the network has no such step.
    """
    if not 1 <= step <= feedback_steps(model):
        raise ValueError(f"step must lie in 1..{feedback_steps(model)}, the network's, got {step}")
    blocks = last_feedback(model)
    norms = [block.td.norms for block in blocks]
    try:
        for block, all_norms in zip(blocks, norms):
            block.td.norms = all_norms[: step - 1]
        with no_replays():
            yield
    finally:
        for block, all_norms in zip(blocks, norms):
            block.td.norms = all_norms
