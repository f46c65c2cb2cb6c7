"""Train networks side by side on one GPU: a step of each in turn, on a CUDA stream and as a graph of its own.

One narrow network leaves most of a large GPU idle, and its host can't launch kernels fast enough. On a CPU a
lane is its run's plain steps.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch

from attn_mm.errors import one_line
from benchmarks.cifar_training import BATCH_SIZE, Run

WARMUP_STEPS = 3


class Lane:
    """A run with the stream that does all of its work.

    Args:
        run: the run.
        device: where it is.

    Attributes:
        run: as given.
        without_graph: why its steps aren't a graph; None if they are.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self.run = run
        self._stream: torch.cuda.Stream | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self.without_graph: str | None = f"{device.type} has no CUDA graphs"
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            # The weights and images were made on that one.
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def on(self) -> AbstractContextManager:
        """In this context, work goes to the lane's stream."""
        return contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def capture(self) -> None:
        """Record a step of a whole batch as a CUDA graph, if that is possible; the run stays as it was."""
        if BATCH_SIZE not in self.run.sizes:
            self.without_graph = f"no batch has {BATCH_SIZE} images"
            return
        with self.on():
            before = self.run.state()
            # What is compiled, or made on first use, must not be recorded.
            for _ in range(WARMUP_STEPS):
                # Each from the start: an epoch may have one whole batch only.
                self.run.begin_epoch()
                self.run.step(BATCH_SIZE)
            self.run.begin_epoch()
            try:
                graph = torch.cuda.CUDAGraph()
                # Graphs of one stream would share cuBLAS's workspace, and these run at the same time.
                with torch.cuda.graph(graph, stream=self._stream):
                    self.run.step(BATCH_SIZE)
                self._graph, self.without_graph = graph, None
            except Exception as error:
                # Whatever can't be recorded raises what it likes, and the end of the recording one more.
                self.without_graph = one_line(f"{type(_first(error)).__name__}: {_first(error)}")
            self.run.load_state(before)

    def step(self, size: int) -> None:
        """Start the next step; on a GPU nothing waits for its end."""
        with self.on():
            if self._graph is not None and size == BATCH_SIZE:
                self._graph.replay()
            else:
                self.run.step(size)


def _first(error: BaseException) -> BaseException:
    """The error that began it."""
    return error if error.__context__ is None else _first(error.__context__)


def train_in_turns(
    lanes: Sequence[Lane], after_step: Callable[[], None], after_epoch: Callable[[Lane], None]
) -> None:
    """Train all runs to their ends, a step of each in turn.

    Args:
        lanes: runs of the same images; they may have finished different numbers of epochs.
        after_step: called after each step of each run has been started.
        after_epoch: called after each epoch of each run, on the lane's stream.
    """
    while going := [lane for lane in lanes if not lane.run.finished]:
        began = time.monotonic()
        for lane in going:
            with lane.on():
                lane.run.begin_epoch()
        for size in going[0].run.sizes:
            for lane in going:
                lane.step(size)
                after_step()
        for lane in going:
            with lane.on():
                lane.run.end_epoch()
        seconds = time.monotonic() - began
        for lane in going:
            lane.run.seconds += seconds
            with lane.on():
                after_epoch(lane)
