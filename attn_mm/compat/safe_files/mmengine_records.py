"""Build mmengine's records: logs, configs, data elements.

Importing this takes half of mmengine, so it waits until a file names something of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.structures import BaseDataElement, InstanceData, LabelData, PixelData

from attn_mm.compat.safe_files.arguments import Builder, Reader, Setter, expect, is_size
from attn_mm.compat.safe_files.records import is_name, new_record
from attn_mm.compat.safe_files.values import pairs


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
    expect(type(state) is dict and all(map(is_name, state)), "data element")
    own = ("_metainfo_fields", "_data_fields")
    expect(all(type(state.get(key)) is set for key in own), "data element")
    expect(state.keys() - own <= state[own[0]] | state[own[1]], "data element")
    expect(not any(hasattr(type(record), key) for key in state.keys() - own), "data element")
    record.__dict__.update(state)


def _config(reader: Reader, items: Any = ()) -> ConfigDict:
    config = ConfigDict()
    # Not through its constructor, which copies every nested dict.
    dict.update(config, pairs(reader, items))
    return config


def _config_state(record: ConfigDict, state: Any, reader: Reader) -> None:
    expect(isinstance(state, dict), "ConfigDict")
    reader.budget.take_objects(100 * len(state))
    dict.update(record, state)


_ELEMENTS = (BaseDataElement, InstanceData, LabelData, PixelData)

CLASSES: dict[type, Builder] = {
    **{cls: new_record(cls) for cls in (HistoryBuffer, MessageHub, *_ELEMENTS)},
    ConfigDict: _config,
}
STATES: dict[type, Setter] = {
    ConfigDict: _config_state,
    HistoryBuffer: _history,
    MessageHub: _hub,
    **dict.fromkeys(_ELEMENTS, _element),
}
RECORDS = (BaseDataElement, HistoryBuffer, MessageHub)
"""Types whose attributes hold further values."""
DATA = (OneCycleParamScheduler,)
METHODS = (
    *(HistoryBuffer.min, HistoryBuffer.max, HistoryBuffer.mean, HistoryBuffer.current),
    *(OneCycleParamScheduler._annealing_cos, OneCycleParamScheduler._annealing_linear),
)
DICTS = {ConfigDict: dict.__setitem__}
