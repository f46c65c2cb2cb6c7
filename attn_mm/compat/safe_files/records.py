"""Build records, whose state is set after they are built."""

from __future__ import annotations

import argparse
import collections
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.structures import BaseDataElement, InstanceData, LabelData, PixelData

from attn_mm.compat.safe_files.arguments import Builder, Reader, Setter, expect, is_size


def _new(cls: type) -> Builder:
    def build(reader: Reader) -> Any:
        reader.budget.take_objects(400)
        return object.__new__(cls)

    return build


def _is_name(key: Any) -> bool:
    return type(key) is str and not key.startswith("__")


def _fields(record: Any, state: Any, reader: Reader) -> None:
    expect(type(state) is dict and all(map(_is_name, state)), f"{type(record).__name__}")
    reader.budget.take_objects(100 * len(state))
    record.__dict__.update(state)


def _history(record: HistoryBuffer, state: Any, reader: Reader) -> None:
    expect(type(state) is dict, "HistoryBuffer")
    known = {"max_length", "_log_history", "_count_history", "statistics_methods", "_statistics_methods"}
    expect(state.keys() <= known and is_size(state.get("max_length")), "HistoryBuffer")
    histories: list[Any] = [state.get("_log_history"), state.get("_count_history")]
    for history in histories:
        numbers = isinstance(history, np.ndarray) and history.ndim == 1 and history.dtype.kind in "biuf"
        expect(numbers and len(history) == len(histories[0]), "HistoryBuffer")
    record.max_length = state["max_length"]
    record._log_history, record._count_history = histories
    # The methods are the class's own, whatever the file says.
    record._set_default_statistics()


_HUB = {"_instance_name", "instance_name", "_log_scalars", "_runtime_info", "_resumed_keys"}


def _hub(record: MessageHub, state: Any, reader: Reader) -> None:
    expect(type(state) is dict and state.keys() <= _HUB, "MessageHub")
    record.__dict__.update(state)


def _element(record: BaseDataElement, state: Any, reader: Reader) -> None:
    expect(type(state) is dict and all(map(_is_name, state)), "data element")
    own = ("_metainfo_fields", "_data_fields")
    expect(all(type(state.get(key)) is set for key in own), "data element")
    expect(state.keys() - own <= state[own[0]] | state[own[1]], "data element")
    expect(not any(hasattr(type(record), key) for key in state.keys() - own), "data element")
    record.__dict__.update(state)


def _ordered_state(record: collections.OrderedDict, state: Any, reader: Reader) -> None:
    expect(type(state) is dict and state.keys() <= {"_metadata"}, "OrderedDict")
    expect(isinstance(state.get("_metadata", {}), dict), "OrderedDict")
    record.__dict__.update(state)


def _config_state(record: ConfigDict, state: Any, reader: Reader) -> None:
    expect(isinstance(state, dict), "ConfigDict")
    reader.budget.take_objects(100 * len(state))
    dict.update(record, state)


_ELEMENTS = (BaseDataElement, InstanceData, LabelData, PixelData)

CLASSES: dict[type, Builder] = {
    cls: _new(cls) for cls in (argparse.Namespace, HistoryBuffer, MessageHub, *_ELEMENTS)
}
STATES: dict[type, Setter] = {
    collections.OrderedDict: _ordered_state,
    ConfigDict: _config_state,
    HistoryBuffer: _history,
    MessageHub: _hub,
    argparse.Namespace: _fields,
    **dict.fromkeys(_ELEMENTS, _element),
}
