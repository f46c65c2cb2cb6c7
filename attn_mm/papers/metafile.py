"""Read ``configs/*/metafile.yml``: the configs of a folder, and what its paper publishes of them.

``configs/README.md`` explains the fields.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import yaml

from attn_mm.errors import UserError
from attn_mm.papers.published import Row
from attn_mm.utils.config_names import CONFIGS

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]


class _Text(SafeLoader):
    """Leaves every scalar as it is printed: a published 4.80 is not 4.8."""

    yaml_implicit_resolvers: ClassVar[dict] = {}  # type: ignore[misc]


_ROW_FIELDS = {
    "Where": "where",
    "Network": "network",
    "Config": "config",
    "Options": "options",
    "Minus": "minus",
    "Parameters": "params",
    "FLOPs": "macs",
    "Constants": "constants",
    "Note": "note",
}


TASKS = {
    "detection": "Object Detection",
    "segmentation": "Semantic Segmentation",
    "pose": "Body 2D Keypoint",
    "action": "Action Recognition",
    "classification": "Image Classification",
    "multilabel": "Multi-Label Classification",
}
"""The tasks of configs, and their names in metafiles, which are OpenMMLab's."""

_TASK_OF_FRAMEWORK = {
    "mmdet": "Object Detection",
    "mmseg": "Semantic Segmentation",
    "mmpose": "Body 2D Keypoint",
    "mmaction": "Action Recognition",
    "mmpretrain": "Image Classification",
}


@dataclass(frozen=True)
class Paper:
    """A paper: its title, where it is published, and a link to it."""

    title: str
    citation: str
    url: str


@dataclass(frozen=True)
class Table:
    """A table of the paper, or a part of one, on a data set; ``note`` says what a reader must know of it."""

    where: str
    dataset: str
    note: str = ""


@dataclass(frozen=True)
class Result:
    """What a table publishes of a trained network: metrics by name, digits as printed; empty: none.

    ``steps`` is the protocol of a network with steps, as of ``attn-mm test --steps``; empty: it has none,
    or the paper doesn't say.
    """

    where: str
    task: str
    dataset: str
    metrics: dict[str, str]
    steps: str = ""


@dataclass(frozen=True)
class Entry:
    """A config.

    Attributes:
        name: the file's, without its suffix.
        config: its path, from ``configs/`` on.
        framework: the package that it needs.
        task: a key of :data:`TASKS`.
        description: of the network, in a few words.
        parameters: of the network, counted.
        flops: multiply-adds for one input, counted by the convention of the paper, otherwise by ``conv``.
        rows: what the paper publishes of its size.
        results: what the paper publishes of its accuracy.
    """

    name: str
    config: str
    framework: str
    task: str
    description: str
    parameters: int
    flops: int
    rows: tuple[Row, ...]
    results: tuple[Result, ...]


@dataclass(frozen=True)
class Metafile:
    """A folder of configs; ``paper`` is None where none of the papers has its networks."""

    name: str
    paper: Paper | None
    tables: tuple[Table, ...]
    entries: tuple[Entry, ...]

    def rows(self) -> list[Row]:
        """What the paper publishes of its networks' sizes, table by table."""
        rows = [row for entry in self.entries for row in entry.rows]
        tables = list(dict.fromkeys(row.where for row in rows))
        return sorted(rows, key=lambda row: tables.index(row.where))


def folders() -> list[str]:
    """The folders of ``configs/`` that have a metafile."""
    return sorted(path.parent.name for path in CONFIGS.glob("*/metafile.yml"))


@cache
def read_metafile(folder: str) -> Metafile:
    """The metafile of a folder of ``configs/``.

    Raises:
        UserError: it lacks a field, has one that none of its readers knows, or lists a config twice.
    """
    path = CONFIGS / folder / "metafile.yml"
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Text)
    try:
        metafile = _metafile(path, content)
    except KeyError as error:
        raise UserError(f"{path} lacks the field {error.args[0]} of an entry") from error
    configs = Counter(entry.config for entry in metafile.entries)
    for config, number in configs.items():
        if number > 1:
            raise UserError(f"{path} lists {config} {number} times")
    return metafile


def _metafile(path: Path, content: dict[str, Any]) -> Metafile:
    (collection,) = content["Collections"]
    paper = collection.get("Paper")
    return Metafile(
        name=collection["Name"],
        paper=paper and Paper(paper["Title"], paper["Citation"], paper["URL"]),
        tables=tuple(
            Table(table["Where"], table["Dataset"], table.get("Note", ""))
            for table in collection.get("Tables", ())
        ),
        entries=tuple(_entry(path, collection, model) for model in content["Models"]),
    )


def _entry(path: Path, collection: dict[str, Any], model: dict[str, Any]) -> Entry:
    metadata = collection["Metadata"] | model["Metadata"]
    return Entry(
        name=model["Name"],
        config=model["Config"],
        framework=metadata["Framework"],
        task=_task(path, model, metadata),
        description=model.get("Description", ""),
        parameters=int(metadata["Parameters"]),
        flops=int(metadata["FLOPs"]),
        rows=tuple(_rows(path, collection["Name"], model, metadata)),
        results=tuple(
            Result(
                result["Where"],
                result["Task"],
                result["Dataset"],
                result.get("Metrics") or {},
                result.get("Steps", ""),
            )
            for result in model.get("Results", ())
        ),
    )


def _task(path: Path, model: dict[str, Any], metadata: dict[str, Any]) -> str:
    """What the results are of; a config without results does the task of its folder, or of its framework."""
    names = [result["Task"] for result in model.get("Results", ())]
    names = names or [metadata.get("Task", _TASK_OF_FRAMEWORK[metadata["Framework"]])]
    for task, name in TASKS.items():
        if set(names) == {name}:
            return task
    raise UserError(f"{path}: {model['Name']} has the task {names[0]!r}, which is none of one kind")


def _rows(path: Path, paper: str, model: dict[str, Any], metadata: dict[str, Any]) -> Iterator[Row]:
    for published in model.get("Published", ()):
        unknown = published.keys() - _ROW_FIELDS
        if unknown:
            raise UserError(f"{path}: {model['Name']} has an unknown field {min(unknown)!r}")
        fields = {_ROW_FIELDS[key]: value for key, value in published.items()}
        if "params" not in fields and "macs" not in fields:
            fields["params"] = f"{int(metadata['Parameters']):,}"
        notes = fields.get("note", ())
        fields.update(
            where=f"{paper}, {fields['where']}",
            options={key: yaml.safe_load(value) for key, value in fields.get("options", {}).items()},
            constants=fields.get("constants") == "true",
            note=notes if isinstance(notes, str) else ". ".join(notes),
        )
        yield Row(
            **{"config": model["Config"], **fields},
            convention=metadata["Convention"],
            shape=tuple(map(int, metadata["Shape"].split("x"))),
            framework=metadata["Framework"],
        )
