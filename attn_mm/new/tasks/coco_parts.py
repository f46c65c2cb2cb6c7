"""What detection and pose share: the splits of a set in COCO's format, and how a config names them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from attn_mm.new.formats.boxed import Part
from attn_mm.new.literals import source
from attn_mm.new.report import Report, sizes_in_words


def describe_parts(parts: Mapping[str, Part], report: Report, noun: str) -> list[tuple[int, int]]:
    """Report the images and annotations of each split; returns the sizes of all images in pixels.

    Args:
        parts: the splits.
        report: gets what is found.
        noun: what the annotations are, in the plural.
    """
    every = []
    for split, part in parts.items():
        images = part.content["images"]
        sizes = [(int(image["width"]), int(image["height"])) for image in images]
        every += sizes
        objects = len(part.content["annotations"])
        report.found.append(f"{split}: {len(images):,} images of {sizes_in_words(sizes)}, {objects:,} {noun}")
    return every


def classes_of(parts: Mapping[str, Part], report: Report) -> dict[str, Counter[str]]:
    """The number of objects of each class in each split, in the order of the first file's categories."""
    order = [item["name"] for item in parts["train"].content["categories"]]
    counts = {}
    for split, part in parts.items():
        names = {item["id"]: item["name"] for item in part.content["categories"]}
        found = Counter(names.get(item["category_id"], "") for item in part.content["annotations"])
        order += [name for name in names.values() if name not in order]
        counts[split] = Counter({name: found[name] for name in order if found[name]})
    report.complain(
        "classes without an object",
        [name for name in order if not any(c[name] for c in counts.values())],
        "left out",
    )
    for name in order:
        absent = [split for split in parts if not counts[split][name]]
        if absent and len(absent) < len(parts):
            meaning = "nothing can learn it" if "train" in absent else "it is not evaluated there"
            report.remark(f"class {name} has no object in {' and '.join(absent)}: {meaning}")
    return counts


def in_order(parts: Mapping[str, Part], counts: Mapping[str, Counter[str]]) -> list[str]:
    """The classes that have an object, in the order of the categories."""
    names = [item["name"] for part in parts.values() for item in part.content["categories"]]
    return [name for name in dict.fromkeys(names) if any(count[name] for count in counts.values())]


def annotation_files(parts: Mapping[str, Part]) -> dict[str, str]:
    """The files that have yet to be written, by name."""
    return {f"{split}.json": json.dumps(part.content) for split, part in parts.items() if part.file is None}


def loaders_text(parts: Mapping[str, Part], batch: str, loader: str = "", evaluator: str = "") -> str:
    """The lines of a config for its data loaders and evaluators.

    They use the config's ``root``, ``annotations``, ``data``, ``train_pipeline`` and ``test_pipeline``.

    Args:
        parts: the splits; without a test set the validation set is tested on.
        batch: options of the loader for training.
        loader: more options of the test and validation sets.
        evaluator: more options of their evaluators.
    """
    lines = []
    for split, of in (("train", "train"), ("val", "val"), ("test", "test" if "test" in parts else "val")):
        part = parts[of]
        file = f'annotations + "{of}.json"' if part.file is None else f"root + {source(part.file)}"
        folder = f"{part.images}/" if part.images else ""
        options = f"{batch}, " if split == "train" else ""
        more = "" if split == "train" else loader
        pipeline = "train_pipeline" if split == "train" else "test_pipeline"
        lines.append(
            f"{split}_dataloader = dict({options}dataset=dict(**data, ann_file={file}, "
            f"data_prefix=dict(img={source(folder)}), pipeline={pipeline}{more}))"
        )
        if split != "train":
            lines.append(f"{split}_evaluator = dict(ann_file={file}{evaluator})")
    return "\n".join(lines)
