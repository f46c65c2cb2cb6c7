"""Read frames of a video file with PyAV: https://github.com/PyAV-Org/PyAV.

All of attn_mm reads videos here. A frame is known by its time stamp, so a decoder that starts at a key
frame in the middle of the file gives the same frames as one that starts at the beginning.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import dropwhile
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from attn_mm.errors import UnreadableFile, UserError
from attn_mm.utils.extras import require
from attn_mm.utils.files import check_regular

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Earlier versions decode the colours of BT.709, which most videos have, as if they were BT.601.
_OLDEST_PYAV = 17


class Video:
    """A video file.

    Args:
        path: a local file in any format that FFmpeg supports.

    Attributes:
        num_frames: number of frames.
        claimed: number of frames that the file claims to have; more than ``num_frames`` if it is truncated.
        rate: frames per second, or None if the file doesn't say.

    Raises:
        UnreadableFile: if the file can't be opened, or has no frame.
        UserError: if PyAV is missing or too old, or the file is a pipe or a device.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        with self._reading(), self._opened() as (container, stream):
            # Of FFmpeg's formats, those of pictures. Live recordings, too, have no duration.
            if container.format.name.endswith("_pipe"):
                raise ValueError("a single picture")
            # Without their content, which would fill the memory. The last one is empty and ends the stream.
            *packets, _ = [_Packet.of(packet) for packet in container.demux(stream)]
            # The decoder drops what an edit list leaves out.
            shown = [packet for packet in packets if packet.size and not packet.is_discard]
            self._keys = sorted(p.pts for p in packets if p.is_keyframe and p.pts is not None)
            self._times = _times(shown, self._keys, stream)
            self.num_frames = len(self._times or shown)
            if not self.num_frames:
                raise ValueError("no frame")
            self.rate = float(stream.average_rate) if stream.average_rate else None
            self.claimed = self.num_frames + _missing(packets, container, stream)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Decode frames.

        Args:
            indices: frame numbers from 0, in any order, repetitions allowed.

        Returns:
            ``(len(indices), height, width, 3)``, uint8, RGB, rotated if the file says so.

        Raises:
            UnreadableFile: if a frame doesn't exist or can't be decoded.
        """
        wanted, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        for index in wanted[[0, -1]].tolist():
            if not 0 <= index < self.num_frames:
                raise UnreadableFile(f"{self.path} has no frame {index}: it has {self.num_frames} frames")
        with self._reading():
            frames = self._decode(wanted.tolist())
            # Avoids a second copy of a whole video.
            return frames if np.array_equal(places, np.arange(len(wanted))) else frames[places]

    def in_order(self, layout: str = "rgb24") -> Iterator[np.ndarray]:
        """Decode all frames one by one, up to the first that is damaged.

        Args:
            layout: FFmpeg's name of a pixel format, such as ``"bgr24"``.

        Yields:
            ``(height, width, 3)``, uint8, rotated if the file says so.
        """
        pixels = _converter(layout)
        with self._opened() as (container, stream), suppress(_pyav().FFmpegError):
            for frame in container.decode(stream):
                yield pixels(frame)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            # Decoders raise any exception.
            raise UnreadableFile.after(error, self.path, "a video") from error

    @contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        check_regular(self.path)
        # Of a relative name FFmpeg takes what is before a colon for a protocol.
        with _pyav().open(os.path.abspath(self.path)) as container:
            stream = container.streams.video[0]
            # There is a loader of data for each core.
            stream.codec_context.thread_count = 1
            yield container, stream

    def _decode(self, wanted: list[int]) -> np.ndarray:
        """Return the frames with these ascending numbers; raises any exception if one is missing."""
        if self._times:
            times = [self._times[number] for number in wanted]
            with suppress(_pyav().FFmpegError, LookupError):
                return self._search(times)
            # Some files can't be searched, and in some, frames after a key frame need frames before it.
            self._keys = []
            return self._scan(times, lambda _, frame: frame.pts)
        return self._scan(wanted, lambda number, _: number)

    def _search(self, times: list[int]) -> np.ndarray:
        """Return the frames at these ascending times; LookupError if the key frames don't lead to them."""
        if not self._keys:
            raise LookupError
        found: list[np.ndarray] = []
        frames: Iterator[VideoFrame] = iter(())
        reached, pixels = self._keys[0] - 1, _converter()
        with self._opened() as (container, stream):
            for time in times:
                key = self._keys[bisect_right(self._keys, time) - 1]
                if key > reached:
                    frames = _from_key(container, stream, key)
                reached = time
                frame = next((frame for frame in frames if frame.pts is not None and frame.pts >= time), None)
                if frame is None or frame.pts != time or frame.is_corrupt:
                    raise LookupError
                found.append(pixels(frame))
        return np.stack(found)

    def _scan(self, wanted: list[int], name: Callable[[int, VideoFrame], int | None]) -> np.ndarray:
        """Decode from the beginning; return the frames with these ascending names."""
        found, left, pixels = [], iter(wanted), _converter()
        following = next(left, None)
        with self._opened() as (container, stream):
            for number, frame in enumerate(container.decode(stream)):
                if name(number, frame) == following:
                    found.append(pixels(frame))
                    following = next(left, None)
                    if following is None:
                        return np.stack(found)
        raise ValueError(f"no frame {following}")


class _Packet(NamedTuple):
    """What the container tells of a packet."""

    pts: int | None
    duration: int | None
    size: int
    is_keyframe: bool
    is_discard: bool

    @classmethod
    def of(cls, packet: Packet) -> _Packet:
        return cls(*(getattr(packet, name) for name in cls._fields))


def _times(shown: list[_Packet], keys: list[int], stream: VideoStream) -> list[int]:
    """The time stamps of a file's frames, ascending; empty if they don't tell the frames' order."""
    times = [packet.pts for packet in shown if packet.pts is not None]
    if not keys or len(times) < len(shown):
        return []
    # AVI has no time stamps: FFmpeg makes them from the order of decoding, which is another.
    if stream.codec_context.has_b_frames and times == sorted(times):
        return []
    # What is before the first key frame can't be decoded.
    return sorted({time for time in times if time >= keys[0]})


def _missing(packets: list[_Packet], container: InputContainer, stream: VideoStream) -> int:
    """How many frames a truncated file lacks, as far as its header says."""
    rate, unit = stream.average_rate, stream.time_base
    if stream.frames or not rate or not unit:
        return max(0, stream.frames - len(packets))
    stored = stream.metadata.get("DURATION", "")
    if re.fullmatch(r"\d+:\d+:\d+\.\d+", stored):
        hours, minutes, seconds = map(float, stored.split(":"))
        claimed = 3600 * hours + 60 * minutes + seconds
    elif len(container.streams) == 1 and container.duration:
        claimed = container.duration / 1e6
    else:
        return 0
    ends = [packet.pts + (packet.duration or 0) for packet in packets if packet.pts is not None]
    missing = claimed - float(max(ends, default=0) * unit)
    # Of a whole file, too, the two differ a little.
    return int(missing * rate) if missing > 1 else 0


def _from_key(container: InputContainer, stream: VideoStream, key: int) -> Iterator[VideoFrame]:
    """Decode from the key frame with this time stamp on; nothing if the file's search misses it."""
    container.seek(key, stream=stream)
    for packet in dropwhile(lambda packet: packet.pts != key, container.demux(stream)):
        yield from packet.decode()


def _converter(layout: str = "rgb24") -> Callable[[VideoFrame], np.ndarray]:
    """What makes arrays of a file's frames."""
    # A frame's own reformatter would be set up for each frame anew.
    reformatter = _pyav().video.reformatter.VideoReformatter()

    def pixels(frame: VideoFrame) -> np.ndarray:
        upright = np.rot90(
            reformatter.reformat(frame, format=layout, threads=1).to_ndarray(), frame.rotation // 90
        )
        # OpenCV can't draw on a view with other strides, nor can torch take it over.
        return np.ascontiguousarray(upright)

    return pixels


def _pyav() -> ModuleType:
    library = require("av", "video")
    if int(library.__version__.partition(".")[0]) < _OLDEST_PYAV:
        raise UserError(
            f"PyAV {library.__version__} is too old to read videos: pip install 'av>={_OLDEST_PYAV}'"
        )
    return library


def read_frames(path: str | os.PathLike, indices: Sequence[int] | None = None) -> np.ndarray:
    """Read all frames of a video file, or those with the given numbers.

    Returns:
        ``(number, height, width, 3)``, uint8, RGB.

    Raises:
        UnreadableFile: if the file is not a video or damaged, or a frame doesn't exist.
    """
    video = Video(path)
    return video.read(range(video.num_frames) if indices is None else indices)
