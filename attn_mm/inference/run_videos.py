"""Recognise actions in videos, draw them and write what was found."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from rich.progress import Progress

from attn_mm.datasets.media import VideoFile, VideoFrames, breaks_off
from attn_mm.errors import UnreadableFile, UserError
from attn_mm.frameworks.prediction import VideoPredictor
from attn_mm.inference.attention_sheets import AttentionSheets
from attn_mm.inference.predictions import Predictions
from attn_mm.utils.progress import progress_bar


def run_videos(
    paths: list[Path], found: Predictions, predictor: VideoPredictor, sheets: AttentionSheets | None
) -> None:
    """Predict on videos, and write them with the best classes drawn on each frame.

    A record is ``{"file", "width", "height", "frames", "actions"}``, with the
    actions of :meth:`VideoPredictor.best` for the mean of the clips' scores.

    Args:
        paths: the video files.
        found: collects the records; videos go into its folder, those of masks into ``attention/`` there.
        predictor: scores the clips of a video.
        sheets: draws the masks, or None.

    Raises:
        UserError: none of the videos can be read.
    """
    with found, progress_bar() as progress:
        for path, name in zip(paths, _names(paths)):
            try:
                frames = VideoFrames(path)
            except UnreadableFile as error:
                _say(progress, f"skipped: {error}")
                found.skipped.append(path.name)
                continue
            if sheets:
                # Each video has its own scales.
                sheets.limits = None
            attention = VideoFile(found.out / "attention" / name, frames.rate)
            scores, seen = _predict(path, frames.count, predictor, sheets, attention, progress)
            fault = breaks_off(path, seen, frames.count)
            if fault:
                # An action may be in the part that is missing.
                _say(progress, f"skipped: {fault}")
                found.skipped.append(path.name)
                (found.out / "attention" / name).unlink(missing_ok=True)
                continue
            actions = predictor.best(scores)
            height, width = _draw(path, frames.rate, found.out / name, predictor, actions, seen, progress)
            record = dict(file=path.name, width=width, height=height, frames=seen, actions=actions)
            found.records.append(record)
    if not found.records:
        raise UserError(f"none of the {len(paths)} videos in {paths[0].parent} can be read whole")


def _names(paths: list[Path]) -> list[str]:
    """Names of the MP4 files that are written; inputs of the same stem keep their suffix in it."""
    stems = Counter(path.stem for path in paths)
    return [f"{path.stem if stems[path.stem] == 1 else path.name}.mp4" for path in paths]


def _say(progress: Progress, line: str) -> None:
    progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _predict(
    path: Path,
    count: int,
    predictor: VideoPredictor,
    sheets: AttentionSheets | None,
    attention: VideoFile,
    progress: Progress,
) -> tuple[np.ndarray, int]:
    """Write the masks; return the mean of the clips' scores, (classes,), and the number of frames."""
    scores, seen = [], 0
    task = progress.add_task(path.name, total=count)
    with attention:
        for clip in predictor.clips(path):
            found, view = predictor(clip)
            scores.append(found)
            if sheets:
                sheet = sheets.of_clip(view)
                for index, times in clip.shown(seen):
                    picture = sheet(index).pixels()
                    for _ in range(times):
                        attention.write(picture)
            seen = clip.stop
            progress.update(task, completed=seen)
    progress.remove_task(task)
    return np.mean(scores, axis=0), seen


def _draw(
    path: Path,
    rate: float,
    target: Path,
    predictor: VideoPredictor,
    actions: list[dict],
    count: int,
    progress: Progress,
) -> tuple[int, int]:
    """Write a video with the actions drawn on it; return its original height and width."""
    task = progress.add_task(f"drawing {path.name}", total=count)
    with VideoFile(target, rate) as drawn:
        for frame in VideoFrames(path):
            drawn.write(predictor.draw(frame, actions))
            progress.advance(task)
    progress.remove_task(task)
    return frame.shape[:2]
