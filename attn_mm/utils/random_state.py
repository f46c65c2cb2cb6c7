"""Save and restore the state of every random number generator of a process."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """The state of Python's, NumPy's and torch's generators, the latter on every device of this process.

    It holds numbers, texts and tensors only, so that a checkpoint with it can be loaded safely.
    """
    version, words, gauss = random.getstate()
    kind, keys, place, has_gauss, cached = np.random.get_state()
    return {
        "python": (version, torch.tensor(words), gauss),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), place, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what :func:`random_state` returned; GPUs that it doesn't know keep theirs."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    for device, of_device in zip(range(torch.cuda.device_count()), state["cuda"]):
        torch.cuda.set_rng_state(of_device.cpu(), device)


def is_random_state(state: Any) -> bool:
    """Whether :func:`set_random_state` can restore ``state``; it changes no generator."""
    try:
        version, words, gauss = state["python"]
        random.Random().setstate((version, tuple(words.tolist()), gauss))
        kind, keys, *rest = state["numpy"]
        np.random.RandomState().set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))
        torch.Generator().set_state(state["torch"].cpu())
        return all(isinstance(of_device, torch.Tensor) for of_device in state["cuda"])
    except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError):
        return False
