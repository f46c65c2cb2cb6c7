"""Cut a video into the clips that an action network sees.

A 3D network sees clips of consecutive frames that cover the whole video, as in the tests of Hara et al.
(https://arxiv.org/abs/1711.09577). A 2D network, and a 3D one whose config samples uniformly, sees the frames
that its config's sampler chooses from the whole video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attn_mm.datasets.media import VideoFrames
from attn_mm.frameworks.prediction import Clip


def consecutive_clips(frames: Iterable[np.ndarray], offsets: Sequence[int], span: int) -> Iterator[Clip]:
    """Cut a video into clips that don't overlap.

    The last clip ends with the video, and may overlap the one before it.

    Args:
        frames: the video's frames, each (H, W, 3), uint8, BGR.
        offsets: the frames of a clip, counted from its first one.
        span: number of frames of the video that a clip stands for.
    """
    recent: deque[np.ndarray] = deque(maxlen=span)

    def clip() -> Clip:
        picked = [offset % len(recent) for offset in offsets]
        first = stop - len(recent)
        return Clip([recent[index] for index in picked], [first + index for index in picked], stop)

    stop = 0
    for stop, frame in enumerate(frames, start=1):
        recent.append(frame)
        if stop % span == 0:
            yield clip()
    if stop % span:
        yield clip()


def offsets_of_clip(sampler: Any, rate: float) -> tuple[list[int], int]:
    """The ``offsets`` and the ``span`` of the clips that a sampler of mmaction takes.

    Args:
        sampler: a built ``SampleFrames`` or a step like it. If it has a ``target_fps``, it samples a video as
            if the video had that rate.
        rate: the video's frames per second.
    """
    span = sampler.clip_len * sampler.frame_interval
    target = getattr(sampler, "target_fps", None)
    if not target:
        return list(range(0, span, sampler.frame_interval)), span
    length = max(1.0, span * rate / target)
    return np.linspace(0, length - 1, sampler.clip_len).astype(int).tolist(), round(length)


def chosen_frames(path: Path, sampler: Callable[[dict], dict]) -> Clip:
    """The frames of a video that a sampler of mmaction chooses, as one clip.

    Args:
        path: the video file.
        sampler: a step such as ``SampleFrames`` or ``UniformSample``.

    Raises:
        UserError: the video can't be decoded.
    """
    # The number of frames in a file's header may be wrong.
    total = sum(1 for _ in VideoFrames(path))
    chosen = sampler(dict(total_frames=total, start_index=0, avg_fps=VideoFrames(path).rate))
    places = chosen["frame_inds"].ravel().tolist()
    wanted = set(places)
    frames = {place: frame for place, frame in enumerate(VideoFrames(path)) if place in wanted}
    return Clip([frames[place] for place in places], places, total, len(places) // chosen["clip_len"])
