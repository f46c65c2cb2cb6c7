"""Checkpoints load on every torch version and can't run code.

mmengine 0.10.7 calls ``torch.load`` without ``weights_only``
(mmengine/runner/checkpoint.py:347, 415, 438 and 507; :371 and :379 through
``torch.hub``). Before torch 2.6 this runs any code in the file. Since torch 2.6
it rejects mmengine's own checkpoints, because they contain ``HistoryBuffer`` and
NumPy arrays. mmdet, mmpose, mmaction2 and mmpretrain load feature banks and
queues in the same way (mmaction/models/roi_heads/shared_heads/lfb.py:131,
mmpretrain/engine/hooks/swav_hook.py:70).

The patch makes ``torch.load`` use :mod:`attn_mm.compat.safe_files`, unless the call
says how to unpickle: with ``weights_only``, ``pickle_module`` or any other option it is
torch's own, and safe unless it says ``weights_only=False``. The frameworks pass none of these.
``torch.hub.load_state_dict_from_url`` says so by default, and is replaced too.
"""

from __future__ import annotations

import os
import pickle
import textwrap
from collections.abc import Callable
from functools import wraps
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlparse

from attn_mm.compat.lazy import after_import
from attn_mm.errors import (
    CheckpointError,
    MissingCheckpointError,
    PretrainedUnavailableError,
    UnsafeCheckpointError,
    is_out_of_memory,
)

if TYPE_CHECKING:
    import torch

    MapLocation = str | torch.device | dict | Callable | None


def load_checkpoint_file(path: str | os.PathLike | IO[bytes], map_location: MapLocation = "cpu") -> dict:
    """Load a checkpoint without running code from it.

    Args:
        path: a file name (``~`` is the home folder) or an open binary file, in any format that ``torch.save``
            has used.
        map_location: as in :func:`torch.load`.

    Returns:
        The checkpoint, a dict.

    Raises:
        UnsafeCheckpointError: if the file names a type or function that is not allowed.
        CheckpointError: if the file is missing or damaged, or doesn't contain a dict.
    """
    checkpoint = _load(path, map_location)
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f"{_name(path)} contains a {type(checkpoint).__name__}, but a checkpoint is a dict of weights"
        )
    return checkpoint


def _load(source: str | os.PathLike | IO[bytes], map_location: MapLocation) -> Any:
    if not isinstance(source, (str, os.PathLike)):
        return _read(source, _name(source), map_location)
    path = Path(source).expanduser()
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise CheckpointError(f"cannot open checkpoint {path}: it is a pipe or a device, not a file")
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise MissingCheckpointError(f"checkpoint {path} does not exist") from error
    except OSError as error:
        raise CheckpointError(f"cannot open checkpoint {path}: {error.strerror}") from error
    with file:
        return _read(file, str(path), map_location)


def _read(file: IO[bytes], name: str, map_location: MapLocation) -> Any:
    # The list of what is allowed takes half of mmengine to import.
    from attn_mm.compat.safe_files import arguments, budget, torch_files

    try:
        content = torch_files.read(file, map_location)
    except arguments.ForbiddenGlobal as error:
        raise UnsafeCheckpointError(
            f"refused {name}: {error}; if you trust it, allow it: torch.serialization.add_safe_globals([...])"
        ) from None
    except budget.Refused as error:
        raise UnsafeCheckpointError(f"refused {name}: {error}") from None
    # A damaged pickle can fail in any way.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise _unreadable(name, error) from error
    return _without_program(content)


def _without_program(content: Any) -> Any:
    """Remove the config that mmcv 1.x saved, because mmengine runs it on resuming (runner/runner.py:2028)."""
    if isinstance(content, dict) and isinstance(content.get("meta"), dict):
        content["meta"].pop("config", None)
    return content


def _unreadable(name: str, error: Exception) -> CheckpointError:
    explained = isinstance(error, (RuntimeError, OSError, pickle.UnpicklingError))
    reason = f" ({textwrap.shorten(str(error)[:1000], 200)})" if explained else ""
    return CheckpointError(
        f"cannot read checkpoint {name}: it is damaged, or torch.save did not write it{reason}"
    )


def _name(source: Any) -> str:
    return str(
        source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", "the checkpoint")
    )


def load_from_local(filename: str, map_location: MapLocation) -> dict:
    """Load a local checkpoint, in place of mmengine's function of this name.

    Raises:
        CheckpointError: as :func:`load_checkpoint_file`, or if what it has are no weights.
    """
    return _with_weights(load_checkpoint_file(filename, map_location), filename)


def _with_weights(checkpoint: dict, name: str | os.PathLike) -> dict:
    import torch

    weights = checkpoint.get("state_dict", checkpoint)
    if not isinstance(weights, dict):
        raise CheckpointError(
            f"{name} has no weights: its state_dict is a {type(weights).__name__}, not a dict of tensors"
        )
    if not weights:
        raise CheckpointError(f"{name} has no weights: {'its state_dict' if checkpoint else 'it'} is empty")
    for key, value in weights.items():
        if not isinstance(key, str):
            raise CheckpointError(
                f"{name} has no weights: the names of weights are text, and one is {_cut(key)}"
            )
        # torch lets a module keep what it likes under this name.
        if weights is not checkpoint and not isinstance(value, torch.Tensor) and "_extra_state" not in key:
            raise CheckpointError(f"{name}: {_cut(key)} is a {type(value).__name__}, not a tensor of weights")
    return checkpoint


def _cut(value: Any) -> str:
    return textwrap.shorten(ascii(value[:80] if isinstance(value, str) else value), 60)


def load_url(
    url: str,
    model_dir: str | None = None,
    map_location: MapLocation = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool = False,
) -> dict:
    """Load a checkpoint from ``url``, or from torch's download cache.

    Args:
        url: where the checkpoint is.
        model_dir: folder of the cache; torch's own by default.
        map_location: as in :func:`torch.load`.
        progress: whether to show the download's progress.
        check_hash: whether the digits at the end of the file's name are the beginning of its SHA-256.
        file_name: name in the cache; the URL's by default.
        weights_only: of no effect: no file runs code.

    Raises:
        PretrainedUnavailableError: if it is not in the cache and can't be downloaded.
    """
    import torch

    folder = Path(model_dir) if model_dir else Path(torch.hub.get_dir(), "checkpoints")
    path = folder / (file_name or Path(urlparse(url).path).name)
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            digits = torch.hub.HASH_REGEX.search(path.name) if check_hash else None
            torch.hub.download_url_to_file(url, str(path), digits and digits[1], progress)
        except (OSError, HTTPException, RuntimeError) as error:
            raise PretrainedUnavailableError(
                f"cannot download {url} ({getattr(error, 'reason', error)}). Use a local file instead, "
                f"save it as {path}, or train without it (--no-pretrained)"
            ) from error
    return _with_weights(load_checkpoint_file(path, map_location), path)


def _loading_safely(plain: Callable) -> Callable:
    @wraps(plain)
    def load(f: Any, map_location: MapLocation = None, *args: Any, **kwargs: Any) -> Any:
        if any(option is not None for option in (*args, *kwargs.values())):
            if not args and kwargs.get("pickle_module") is None and kwargs.get("weights_only") is None:
                # The default of torch since 2.6.
                kwargs["weights_only"] = True
            return plain(f, map_location, *args, **kwargs)
        return _load(f, map_location)

    return load


def _replace_loaders(module: Any) -> None:
    module.load_url = load_url
    module.CheckpointLoader.register_scheme("", load_from_local, force=True)


def _replace_load(module: ModuleType) -> None:
    vars(module)["load"] = _loading_safely(module.serialization.load)
    _replace_hub(module.hub)


def _replace_hub(module: Any) -> None:
    module.load_state_dict_from_url = load_url


def patch() -> None:
    after_import("torch", _replace_load)
    after_import("torch.utils.model_zoo", lambda module: setattr(module, "load_url", load_url))
    after_import("torchvision._internally_replaced_utils", _replace_hub)
    after_import("torchvision.models._api", _replace_hub)
    after_import("mmengine.runner.checkpoint", _replace_loaders)
