"""Attention in any torch network, without OpenMMLab: torchvision's, timm's, your own.

::

    net = torchvision.models.resnet50(weights="DEFAULT")
    attn_mm.attach(net, ["CBAM", dict(type="TD", mode="joint")])

The words are those of configs, without the scope: ``"CBAM"`` is ``dict(type="attn_mm.CBAM")``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from attn_mm.compat.checkpoints import load_checkpoint_file
from attn_mm.errors import CheckpointError, ConfigError
from attn_mm.graft.state import describe_load, reported_keys
from attn_mm.models.grafting import graft_onto
from attn_mm.models.grafts import GRAFTS
from attn_mm.models.layers import FOREIGN, PLUGINS
from attn_mm.utils.weights import wrong_weight


def list_attention() -> list[str]:
    """List the names of all attention that :func:`attach` knows."""
    return sorted([*GRAFTS, *(layer.__name__ for layer in (*PLUGINS, *FOREIGN))])


def attach(net: nn.Module, grafts: str | dict | Sequence[str | dict]) -> nn.Module:
    """Graft attention onto a network, in place.

    Its parameters keep their names and values, so its checkpoints load before and after. Training mode,
    device and data type of what is added are those of the network.

    Args:
        net: any network.
        grafts: one or several: a name of :func:`list_attention`, or a dict with the name as ``type`` and its
            options. Places are named as in configs: ``position``, ``stages`` and ``blocks`` in networks
            whose blocks are known, ``outputs`` behind the maps that the network returns, ``after`` and
            ``convs`` by patterns over the names that :func:`attn_mm.describe.places.list_places` shows.

    Returns:
        ``net`` itself.

    Raises:
        ConfigError: a graft is unknown, has a wrong option, or doesn't fit the network; nothing is added.
    """
    _check_network(net, "attach")
    listed: Any = grafts if isinstance(grafts, list | tuple) else [grafts]
    return graft_onto(net, [_scoped(graft) for graft in listed])


def _check_network(net: object, function: str) -> None:
    if not isinstance(net, nn.Module):
        raise ConfigError(f"{function} needs a torch.nn.Module, got {type(net).__name__}")


def _scoped(graft: Any) -> dict:
    config = dict(type=graft) if isinstance(graft, str) else graft
    if not isinstance(config, dict) or "type" not in config:
        raise ConfigError(f"each graft must be a name or a dict with a type, got {graft!r}")
    kind = config["type"]
    if not isinstance(kind, str):
        return config
    name = kind.removeprefix("attn_mm.")
    if name not in list_attention():
        raise ConfigError(f"there is no attention {kind!r}: name one of {', '.join(list_attention())}")
    return {**config, "type": f"attn_mm.{name}"}


def load(net: nn.Module, checkpoint: str | os.PathLike | Mapping[str, Tensor]) -> str:
    """Load weights into a network, with attention or without, and say which keys it had.

    Nothing in a file is run. Weights may be under ``state_dict``, ``model`` or ``model_state_dict`` in it.
    Keys that the network lacks, or that the checkpoint lacks, are named and otherwise ignored.

    Args:
        net: the network; it stays on its device.
        checkpoint: a file that ``torch.save`` wrote, or a state dict.

    Returns:
        One line, such as ``AttnResNet: 320 of 326 keys loaded, 6 new (layer4.0.td)``.

    Raises:
        CheckpointError: the file can't be read, or asks for code; a weight has another shape than in the
            network, or no key is the network's.
    """
    _check_network(net, "load")
    name = "the state dict"
    weights: Any = checkpoint
    if isinstance(checkpoint, str | os.PathLike):
        name, weights = str(checkpoint), load_checkpoint_file(checkpoint)
        weights = next(
            (
                weights[key]
                for key in ("state_dict", "model", "model_state_dict")
                if isinstance(weights.get(key), dict)
            ),
            weights,
        )
    if not isinstance(weights, Mapping) or not all(isinstance(key, str) for key in weights):
        raise CheckpointError(
            f"{name} is no checkpoint: give a file name, or a dict of tensors by their names"
        )
    own = net.state_dict()
    tensors = {key: value for key, value in weights.items() if isinstance(value, Tensor)}
    given = {key if key in own else key.removeprefix("module."): value for key, value in tensors.items()}
    if not own.keys() & given.keys():
        example, other = next(iter(own), "no key"), next(iter(given), "no tensor")
        raise CheckpointError(
            f"{name} has no weights of {type(net).__name__}: the network has {example}, it has {other}"
        )
    if fault := wrong_weight(net, given):
        raise CheckpointError(f"{name} doesn't fit {type(net).__name__}: {fault}")
    try:
        net.load_state_dict(given, strict=False)
    except RuntimeError as error:
        # torch lists every weight of another shape, a line each, after a headline.
        first = str(error).split("\n")[1:2] or [str(error)]
        raise CheckpointError(f"{name} doesn't fit {type(net).__name__}: {first[0].strip()}") from error
    return describe_load(net, reported_keys(own), reported_keys(given))
