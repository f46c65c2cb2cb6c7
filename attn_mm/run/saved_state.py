"""Check what a checkpoint has beside its weights.

mmengine continues from most of it without a look, or fails with an error that seems to be the config's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.runner import IterBasedTrainLoop, Runner
from torch import Tensor

from attn_mm.errors import UserError
from attn_mm.utils.random_state import is_random_state

PROGRESS = "attn_mm"
"""The key of a checkpoint's ``meta`` for what :mod:`attn_mm.run.loops` saves."""

_NEEDED = ("meta", "state_dict", "message_hub", "optimizer")
# No training has more steps; a float counts to 2**53.
_MOST = 10**12


def check_saved_state(checkpoint: Mapping, path: str) -> None:
    """Check that a run can continue from a checkpoint, whatever the run is.

    Args:
        checkpoint: the file's content.
        path: the file, for the message.

    Raises:
        UserError: it can't.
    """
    missing = [key for key in _NEEDED if not isinstance(checkpoint.get(key), dict)]
    if missing:
        raise UserError(
            f"{path} can't be resumed, it has no {missing[0]}: train from its weights with "
            f"--cfg-options load_from={path}"
        )
    _raise_first(_faults(checkpoint), path)


def _raise_first(faults: Iterator[str], path: str) -> None:
    fault = next(faults, None)
    if fault:
        raise UserError(f"{path} can't be resumed: {fault}; use an earlier checkpoint")


def _faults(checkpoint: Mapping) -> Iterator[str]:
    meta = checkpoint["meta"]
    for key in ("epoch", "iter"):
        if not _is_count(meta.get(key), _MOST):
            yield f"its meta.{key} is {_cut(meta.get(key))}, not a number of {key}s"
    seed = meta.get("seed")
    if seed is not None and not _is_count(seed, 2**32 - 1):
        yield f"its meta.seed is {_cut(seed)}, not a number from 0 to 2**32 - 1"
    progress = meta.get(PROGRESS)
    if progress is not None:
        yield from _faults_of_progress(progress)
    hub = checkpoint["message_hub"]
    for key in ("log_scalars", "runtime_info", "resumed_keys"):
        if not isinstance(hub.get(key), dict):
            yield f"its message_hub has no {key}"
    for key, value in hub["runtime_info"].items():
        if key == "keep_ckpt_ids" and not (
            isinstance(value, list) and all(_is_count(i, _MOST) for i in value)
        ):
            yield f"its message_hub.runtime_info.{key} is {_cut(value)}, not a list of numbers"
        if str(key).startswith("best_ckpt") and not isinstance(value, (str, type(None))):
            yield f"its message_hub.runtime_info.{key} is {_cut(value)}, not a path"
        if str(key).startswith("best_score") and not _is_finite(value):
            yield f"its message_hub.runtime_info.{key} is {_cut(value)}, not a finite number"


def _faults_of_progress(progress: Any) -> Iterator[str]:
    if not isinstance(progress, dict):
        yield f"its meta.{PROGRESS} is {_cut(progress)}, not a dict"
        return
    if not _is_count(progress.get("batch"), _MOST):
        yield f"its meta.{PROGRESS}.batch is {_cut(progress.get('batch'))}, not a number of batches"
    if not isinstance(progress.get("validated"), bool):
        yield f"its meta.{PROGRESS}.validated is {_cut(progress.get('validated'))}, not True or False"
    states = progress.get("random")
    if not isinstance(states, list) or not all(map(is_random_state, states)):
        yield f"its meta.{PROGRESS}.random is not a list of states of random number generators"
    stopping = progress.get("early_stopping", [])
    if not isinstance(stopping, list) or not all(map(_is_stopping, stopping)):
        yield f"its meta.{PROGRESS}.early_stopping is {_cut(stopping)}, not counts and scores"


def _is_stopping(entry: Any) -> bool:
    """Whether an entry is a number of evaluations without improvement, and the best score."""
    pair = isinstance(entry, list) and len(entry) == 2 and _is_count(entry[0], _MOST)
    return pair and _is_number(entry[1]) and not math.isnan(entry[1])


def check_place(runner: Runner, checkpoint: Mapping, path: str) -> None:
    """Check that a checkpoint is from a run that is as long as ``runner``'s or shorter.

    Raises:
        UserError: it isn't.
    """
    loop: Any = runner.train_loop
    key, last, option = "epoch", loop.max_epochs, "max_epochs"
    if isinstance(loop, IterBasedTrainLoop):
        key, last, option = "iter", loop.max_iters, "max_iters"
    done = checkpoint["meta"][key]
    if done > last:
        raise UserError(
            f"{path} can't be resumed: its meta.{key} is {done}, but the config's train_cfg.{option} is "
            f"{last}"
        )
    progress = checkpoint["meta"].get(PROGRESS)
    if progress and key == "epoch" and progress["batch"] > len(loop.dataloader):
        raise UserError(
            f"{path} can't be resumed: it was saved after batch {progress['batch']} of an epoch, but the "
            f"config's epochs have {len(loop.dataloader)}: use the same data and batch size"
        )


def check_optimizer(runner: Runner, path: str) -> None:
    """Check the state of the optimizers that ``runner`` has loaded from the checkpoint at ``path``.

    Raises:
        UserError: it is nonsense, or there is none.
    """
    wrappers: Any = runner.optim_wrapper
    several = {"optimizer": wrappers} if hasattr(wrappers, "optimizer") else dict(wrappers.items())
    for name, wrapper in several.items():
        _raise_first(_faults_of_optimizer(wrapper.optimizer, name, runner.iter), path)


def _faults_of_optimizer(optimizer: Any, name: str, steps: int) -> Iterator[str]:
    for index, group in enumerate(optimizer.param_groups):
        for key, value in group.items():
            if key != "params":
                default = optimizer.defaults.get(key)
                place = f"its {name}.param_groups[{index}].{key}"
                if _is_number(default) and not _is_finite(value):
                    yield f"{place} is {_cut(value)}, not a finite number"
    for parameter, state in optimizer.state.items():
        if not isinstance(parameter, Tensor) or not isinstance(state, dict):
            yield f"its {name}.state is no state of the model's parameters"
            return
        for key, value in state.items():
            if isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all():
                yield f"its {name}.state has a {key} of {tuple(parameter.shape)} that is NaN or infinite"
    remembers = any(group.get("momentum") or group.get("betas") for group in optimizer.param_groups)
    if steps and remembers and not optimizer.state:
        yield f"its {name}.state is empty"


def check_schedulers(schedulers: Any, saved: Any, path: str) -> None:
    """Check the saved states of a run's schedulers, which load anything.

    Args:
        schedulers: the run's, in a list or in a dict of lists.
        saved: the checkpoint's ``param_schedulers``.
        path: the file, for the message.

    Raises:
        UserError: there are others than the run has, or one has other content.
    """
    _raise_first(_faults_of_schedulers(schedulers, saved, "param_schedulers"), path)


def _faults_of_schedulers(schedulers: Any, saved: Any, name: str) -> Iterator[str]:
    if isinstance(schedulers, dict):
        if not isinstance(saved, dict) or saved.keys() != schedulers.keys():
            yield f"its {name} are {_cut(saved)}, not those of {', '.join(map(str, schedulers))}"
            return
        for key in schedulers:
            yield from _faults_of_schedulers(schedulers[key], saved[key], f"{name}.{key}")
        return
    if not isinstance(saved, list):
        yield f"its {name} is a {type(saved).__name__}, not a list"
        return
    if len(saved) != len(schedulers):
        yield f"it has {len(saved)} {name}, but the config has {len(schedulers)}"
        return
    for index, (scheduler, state) in enumerate(zip(schedulers, saved)):
        own = scheduler.state_dict()
        place = f"{name}[{index}]"
        if not isinstance(state, dict) or state.keys() != own.keys():
            yield f"its {place} is no state of a {type(scheduler).__name__}"
            continue
        for key, value in own.items():
            if not _is_like(state[key], value):
                yield f"its {place}.{key} is {_cut(state[key])}, not like {_cut(value)}"


def _is_like(value: Any, own: Any) -> bool:
    """Whether a saved value is of the kind of the run's own."""
    if own is None:
        return value is None or _is_finite(value)
    if _is_number(own):
        in_range = not isinstance(own, int) or (_is_finite(value) and -1 <= value <= _MOST)
        # The best score so far begins with infinity.
        return in_range and (_is_finite(value) or (math.isinf(own) and _is_number(value)))
    if isinstance(own, Mapping):
        return isinstance(value, Mapping)
    if isinstance(own, Sequence) and not isinstance(own, str):
        numbers = all(map(_is_number, own))
        return isinstance(value, Sequence) and not (numbers and not all(map(_is_finite, value)))
    return isinstance(value, type(own))


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    try:
        return not isinstance(value, (bool, str)) and math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False


def _cut(value: Any) -> str:
    try:
        return f"{value!a:.60}"
    except ValueError:
        # An integer of too many digits.
        return f"a {type(value).__name__}"
