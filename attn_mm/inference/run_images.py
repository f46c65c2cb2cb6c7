"""Predict on images and on the frames of a video, and write what was found."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from attn_mm.datasets.media import (
    VideoFile,
    VideoFrames,
    breaks_off,
    read_image,
    write_image,
)
from attn_mm.errors import UnreadableFile, UserError
from attn_mm.frameworks.pipelines import processing
from attn_mm.frameworks.prediction import Predictor
from attn_mm.inference.attention_sheets import AttentionSheets, write_sheet
from attn_mm.inference.predictions import Predictions
from attn_mm.utils.progress import progress_bar


def run_images(
    paths: list[Path], found: Predictions, predictor: Predictor, sheets: AttentionSheets | None
) -> None:
    """Predict on images and write the drawn pictures; UserError if no image can be read."""
    stems = Counter(path.stem for path in paths)
    with found, progress_bar() as progress:
        for path in progress.track(paths, description="images"):
            try:
                image = read_image(path)
                with processing(path, image):
                    prediction = predictor(image, path.name)
            except UnreadableFile as error:
                progress.console.print(f"skipped: {error}", markup=False, highlight=False, soft_wrap=True)
                found.skipped.append(path.name)
                continue
            write_image(found.out / path.name, prediction.picture)
            if sheets:
                for view in prediction.views:
                    place = "" if view.place is None else f"_{view.place}"
                    # In another format a.jpg and a.png would share a name.
                    stem = path.name if sheets.suffix and stems[path.stem] > 1 else path.stem
                    target = found.out / "attention" / f"{stem}{place}{sheets.suffix or path.suffix}"
                    write_sheet(target, sheets(view, f"{path.stem}{place}{path.suffix}"))
            found.add(image, prediction, file=path.name)
        if sheets and sheets.figure:
            sheets.figure.write()
    if not found.records:
        raise UserError(f"none of the {len(paths)} images in {paths[0].parent} can be read")


def run_video(
    frames: VideoFrames, name: Path, found: Predictions, predictor: Predictor, sheets: AttentionSheets | None
) -> None:
    """Predict on the frames of a video and write a video of the drawn pictures."""
    drawn, attended = (
        VideoFile(found.out / sub / f"{name.stem}.mp4", frames.rate) for sub in ("", "attention")
    )
    with found, drawn, attended, progress_bar() as progress:
        for index, frame in enumerate(progress.track(frames, total=frames.count, description="frames")):
            prediction = predictor(frame, name.name)
            drawn.write(prediction.picture)
            if sheets:
                # Of several crops the first is that of the person with the highest score.
                attended.write(sheets(prediction.views[0]).pixels() if prediction.views else None)
            found.add(frame, prediction, file=name.name, frame=index)
    warning = breaks_off(name, len(found.records), frames.count)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
