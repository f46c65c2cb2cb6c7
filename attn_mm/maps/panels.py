"""Make the panels of a picture; each shows one attention of one layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from attn_mm.layers.recording import AttentionKind, Recorded, record_attention
from attn_mm.maps.values import at_frame

# What a place is called, in the order in which it is said.
_PLACES = ("stage", "step", "flow", "part", "head")


@dataclass
class Panel:
    """One attention for one picture.

    Attributes:
        kind: the kind of attention, which explains the values.
        values: float64: (h, w) over positions, (n,) over channels or weights.
        layer: name of the layer in the model.
        place: see :class:`attn_mm.layers.recording.Attention`; has ``"call"`` if the layer ran several times.
        signed: whether 0 is the middle of the range of values instead of its minimum.
        note: an additional remark.
        score: name of the score that the values explain, if any.
    """

    kind: AttentionKind
    values: np.ndarray
    layer: str
    place: dict[str, int] = field(default_factory=dict)
    signed: bool = False
    note: str = ""
    score: str = ""

    @property
    def title(self) -> str:
        """The place of the attention, in a few words."""
        words = []
        for name in (*_PLACES, "call"):
            if name in self.place:
                number = self.place[name]
                passage = f"{number - 1} → {number}" if name == self.kind.leads_to else f"{number}"
                words.append(f"{name} {passage}")
        return ", ".join(words)

    @property
    def key(self) -> str:
        """Identifies the panel within a picture; the same for every picture."""
        place = ",".join(f"{name}={number}" for name, number in sorted(self.place.items()))
        return f"{self.kind.name}|{self.layer}|{place}"


def attention_of(model: nn.Module, run: Callable[[Tensor], object], inputs: Tensor) -> list[Recorded]:
    """Record every attention of ``model`` while ``run(inputs)`` runs it, without gradients."""
    with torch.no_grad(), record_attention(model) as maps:
        run(inputs)
    return maps


def panels(maps: Sequence[Recorded], sample: int = 0, frame: tuple[int, int] | None = None) -> list[Panel]:
    """Make the panels of one picture.

    Args:
        maps: the attention maps of a batch.
        sample: index of the picture in the batch.
        frame: for a clip with attention over time: (index of the frame, number of frames).
    """
    repeated = {(item.kind.name, item.layer, *_numbers(item)) for item in maps if item.call > 1}
    found = []
    for item in maps:
        values = item.values[sample].cpu().double().numpy()
        if item.kind.over != "positions":
            values = values.ravel()
        else:
            values = values[0] if frame is None else at_frame(values[0], *frame)
        place = dict(item.place)
        if (item.kind.name, item.layer, *_numbers(item)) in repeated and item.kind.leads_to != "step":
            place["call"] = item.call
        found.append(Panel(item.kind, values, item.layer, place))
    return found


def frame_panels(maps: Sequence[Recorded], inputs: Tensor, frames: int) -> Callable[[int], list[Panel]]:
    """A function from the index of a frame in a clip to its panels.

    Args:
        maps: the attention maps of the clip.
        inputs: the network's inputs: ``(clips, C, T, H, W)``, or ``(frames, C, H, W)`` for a 2D network,
            which sees each frame as a sample of its own.
        frames: number of frames.
    """
    length = frames // len(inputs)

    def found(index: int) -> list[Panel]:
        sample, place = divmod(index, length)
        return panels(maps, sample, (place, length) if inputs.dim() == 5 else None)

    return found


def rank(panel: Panel) -> int:
    """Sort key that puts maps before charts."""
    return ("positions", "channels", "weights").index(panel.kind.over)


def _numbers(item: Recorded) -> tuple:
    return tuple(sorted(item.place.items()))
