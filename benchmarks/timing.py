"""Time steps in turns, measure their memory, and save the results in a file."""

from __future__ import annotations

import json
import platform
import random
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from attn_mm.errors import UserError

Step = Callable[[], None]


def take_turns(
    steps: Mapping[str, Step], turns: int, clock: str, device: str, calls: int = 1
) -> dict[str, list[float]]:
    """Time each step in each turn, in seconds per call, after two warm-up calls.

    Args:
        clock: ``'wall'``, or ``'cpu'`` for the CPU time of this process.
        calls: consecutive calls of a step in each turn.
    """
    for step in steps.values():
        for _ in range(2):
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    shuffle = random.Random(0).shuffle
    for _ in range(turns):
        # Whoever comes first finds other caches than whoever comes last.
        shuffle(order)
        for name in order:
            times[name].append(seconds(steps[name], clock, device, calls))
    return times


def captured(step: Step) -> Step:
    """Capture ``step`` as a CUDA graph, to time the device without waiting for the host."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError as error:
        # The end of a capture that failed raises an error of its own.
        if out_of_memory := _out_of_memory(error):
            raise out_of_memory from None
        raise
    return graph.replay


def _out_of_memory(error: BaseException | None) -> torch.cuda.OutOfMemoryError | None:
    """The first error among this one and those that it follows that tells of a lack of memory."""
    while error is not None and not isinstance(error, torch.cuda.OutOfMemoryError):
        error = error.__context__
    return error


def seconds(step: Step, clock: str, device: str, calls: int = 1) -> float:
    """Time ``step``, the mean over ``calls`` calls."""
    now = time.perf_counter if clock == "wall" else time.process_time
    _finish(device)
    started = now()
    for _ in range(calls):
        step()
    _finish(device)
    return (now() - started) / calls


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def peak_memory(net: nn.Module, step: Step, device: str) -> int:
    """Peak memory of a network and its step in bytes: weights, gradients, maps and workspace."""
    net.zero_grad(set_to_none=True)
    weights = sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return weights + torch.cuda.max_memory_allocated(device) - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Profiler clears events")
        with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
            step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return weights + peak


def ratios(times: Sequence[float], to: Sequence[float]) -> list[float]:
    """Divide the times of a step by those of another in the same turns."""
    return [own / other for own, other in zip(times, to)]


def summary(ratios: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    q1, median, q3 = statistics.quantiles(ratios, n=4, method="inclusive")
    return dict(median=median, q1=q1, q3=q3)


def device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def open_record(path: Path, about: dict) -> dict:
    """Read the record in ``path``, or start an empty one; UserError if its settings differ."""
    if not path.exists():
        return dict(about=about, cases={})
    try:
        record = json.loads(path.read_text())
        held = {name: record["about"].get(name) for name in about}
        record["cases"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a record of this benchmark; name another --work-dir") from error
    differs = [f"{name} {held[name]}, now {about[name]}" for name in about if held[name] != about[name]]
    if differs:
        raise UserError(f"{path} was measured with {'; '.join(differs)}: name another --work-dir")
    return record
