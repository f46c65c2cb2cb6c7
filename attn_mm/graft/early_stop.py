"""Stop top-down feedback early: what a network predicts after each of its computation steps.

Jaiswal, Fernando & Tan, TDAM, ECCV 2022 (https://arxiv.org/abs/2111.13470), figure 6 and section 4.1, show
a network's attention and prediction at each step. The authors' released code gets them by stopping the
blocks of the last stage after that step; earlier stages run all their steps. A backbone that runs again as a
whole stops after that step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from attn_mm.graft.blocks import FeedbackMixin
from attn_mm.graft.grafted import Flows, find_flows
from attn_mm.layers.ops.execution import no_replays


def last_feedback(model: nn.Module) -> list[FeedbackMixin]:
    """The blocks with feedback in the last stage that has any; an empty list where there is none."""
    backbone = getattr(model, "backbone", model)
    found = {name: block for name, block in backbone.named_modules() if isinstance(block, FeedbackMixin)}
    # A stage is a sequence of blocks.
    stages = [name.rpartition(".")[0] for name in found]
    return [block for block, stage in zip(found.values(), stages) if stage == stages[-1]]


def _whole(model: nn.Module) -> Flows | None:
    """How a backbone with feedback from its last map to its input runs; None of any other network."""
    flows = find_flows(getattr(model, "backbone", model))
    return flows if flows is not None and flows.graft == "WholeTD" else None


def feedback_steps(model: nn.Module) -> int:
    """T, the steps of the whole backbone or of the last stage with feedback; 1 of a network without any."""
    whole = _whole(model)
    if whole is not None:
        return whole.number
    return max((len(block.td.norms) + 1 for block in last_feedback(model)), default=1)


@contextmanager
def stopped_after(model: nn.Module, step: int) -> Iterator[None]:
    """In this context the blocks of :func:`last_feedback`, or a whole backbone, stop after ``step``, from 1.

    Raises:
        ValueError: the network has no such step.
    """
    if not 1 <= step <= feedback_steps(model):
        raise ValueError(f"step must be in 1..{feedback_steps(model)}, the network's steps, got {step}")
    blocks, whole = last_feedback(model), _whole(model)
    norms = [block.td.norms for block in blocks]
    steps = None if whole is None else whole.number
    try:
        if whole is not None:
            whole.number = step
        for block, all_norms in zip(blocks, norms):
            block.td.norms = all_norms[: step - 1]
        with no_replays():
            yield
    finally:
        if whole is not None and steps is not None:
            whole.number = steps
        for block, all_norms in zip(blocks, norms):
            block.td.norms = all_norms
