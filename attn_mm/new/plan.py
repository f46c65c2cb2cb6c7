"""What the user asks of ``attn-mm new``, and what a task answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from attn_mm.new.network import NONE
from attn_mm.new.report import Report


@dataclass(frozen=True)
class Wishes:
    """The command line.

    Attributes:
        data: folder of the data set, or one COCO file in it.
        format: of boxes; None to recognise it.
        backbone: such as ``resnet50``.
        attention: names of :func:`attn_mm.networks.list_attention`, or ``none``.
        size: side of the network's input in pixels; None to choose it.
        epochs: length of the training; None to choose it.
        seed: of a random split.
    """

    data: Path
    format: str | None = None
    backbone: str = "resnet50"
    attention: tuple[str, ...] = ("TD",)
    size: int | None = None
    epochs: int | None = None
    seed: int = 0

    def network(self) -> str:
        """The backbone and its attention in words."""
        names = ", ".join(self.attention)
        return self.backbone if self.attention == (NONE,) else f"{self.backbone} and {names}"


@dataclass(frozen=True)
class Plan:
    """A config, and what to say of its data.

    Attributes:
        network: the network in words.
        config: the config's text.
        files: annotations that the config reads, by their names in the folder beside it.
        report: what was found.
    """

    network: str
    config: str
    report: Report
    files: dict[str, str] = field(default_factory=dict)


def annotations_folder(name: str) -> str:
    """The name of the folder beside the config ``name``, which has its annotations."""
    return f"{name}_annotations"
