"""Read frames of a video file with decord, PyAV or OpenCV, whichever is installed.

decord: https://github.com/dmlc/decord; PyAV: https://github.com/PyAV-Org/PyAV; OpenCV: https://opencv.org.
All three decode with FFmpeg and give the same frames. PyAV and OpenCV decode from the beginning to the last
requested frame, because in some files their seeking reaches the wrong frame.
"""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

from attn_mm.errors import ConfigError, UnreadableFile


class Video(ABC):
    """An open video file.

    Args:
        path: a local file in any format that FFmpeg supports.

    Attributes:
        num_frames: number of frames.
        rate: frames per second, or None if the file doesn't say.

    Raises:
        UnreadableFile: if the file can't be opened, or has no frame.
    """

    num_frames: int
    rate: float | None

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        try:
            self.num_frames, self.rate = self._open()
            if self.num_frames < 1:
                raise ValueError("no frame")
        except Exception as error:
            # Decoders raise any exception.
            raise UnreadableFile.after(error, self.path, "a video") from error

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
        try:
            frames = np.asarray(self._decode(wanted.tolist()))
            # Avoids a second copy of a whole video.
            return frames if np.array_equal(places, np.arange(len(wanted))) else frames[places]
        except Exception as error:
            raise UnreadableFile.after(error, self.path, "a video") from error

    @abstractmethod
    def _open(self) -> tuple[int, float | None]:
        """Return the number of frames and the rate."""

    @abstractmethod
    def _decode(self, wanted: list[int]) -> np.ndarray | list[np.ndarray]:
        """Return the frames with these ascending numbers; raise any exception if one is missing."""


class DecordVideo(Video):
    """A video decoded by decord."""

    def _open(self) -> tuple[int, float | None]:
        import decord

        # Otherwise FFmpeg prints its own message about a damaged file as well.
        decord.logging.set_level(decord.logging.QUIET)
        self._reader = decord.VideoReader(self.path, num_threads=1)
        return len(self._reader), self._reader.get_avg_fps() or None

    def _decode(self, wanted: list[int]) -> np.ndarray | list[np.ndarray]:
        import decord

        try:
            return self._reader.get_batch(wanted).asnumpy()
        except decord.DECORDError:
            # decord 0.6 can't copy a rotated frame of a width such as 1080 (ndarray.cc:171).
            return OpenCVVideo(self.path)._decode(wanted)


class PyAVVideo(Video):
    """A video decoded by PyAV."""

    def _open(self) -> tuple[int, float | None]:
        import av

        with av.open(self.path) as container:
            stream = container.streams.video[0]
            if stream.duration is None and container.duration is None:
                raise ValueError("a single picture")
            # Matroska and WebM don't store the number of frames. The last packet is empty.
            number = sum(packet.size > 0 for packet in container.demux(stream))
            return number, float(stream.average_rate) if stream.average_rate else None

    def _decode(self, wanted: list[int]) -> list[np.ndarray]:
        import av

        with av.open(self.path) as container:
            return list(_chosen(container.decode(video=0), wanted, _upright))


def _upright(frame) -> np.ndarray:
    return np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)


class OpenCVVideo(Video):
    """A video decoded by OpenCV."""

    def _capture(self) -> cv2.VideoCapture:
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        capture = cv2.VideoCapture(self.path)
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        return capture

    def _open(self) -> tuple[int, float | None]:
        capture = self._capture()
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS) or None

    def _decode(self, wanted: list[int]) -> list[np.ndarray]:
        capture = self._capture()
        return list(_chosen(iter(capture.grab, False), wanted, lambda _: _retrieved(capture)))


def _retrieved(capture: cv2.VideoCapture) -> np.ndarray:
    _, frame = capture.retrieve()
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def _chosen(frames: Iterator, wanted: list[int], convert: Callable) -> Iterator[np.ndarray]:
    """Convert the ``frames`` with these ascending numbers.

    Raises:
        ValueError: if a frame is missing.
    """
    left = iter(wanted)
    following: int | None = next(left)
    for number, frame in enumerate(frames):
        if number == following:
            yield convert(frame)
            following = next(left, None)
            if following is None:
                return
    raise ValueError(f"no frame {following}")


DECODERS: dict[str, type[Video]] = {"decord": DecordVideo, "av": PyAVVideo, "cv2": OpenCVVideo}


def _is_usable(decoder: str) -> bool:
    try:
        module = importlib.import_module(decoder)
    except (ImportError, OSError):
        return False
    # PyAV before 14.2 doesn't report a frame's rotation.
    return decoder != "av" or hasattr(module.VideoFrame, "rotation")


def check_decoder(decoder: str | None) -> None:
    """Check the name of a decoder.

    Raises:
        ConfigError: if it is unknown.
    """
    if decoder is not None and decoder not in DECODERS:
        raise ConfigError(f"decoder must be one of {', '.join(DECODERS)}, or None; got {decoder!r}")


def open_video(path: str | os.PathLike, decoder: str | None = None) -> Video:
    """Open a video file.

    Args:
        path: a local file in any format that FFmpeg supports.
        decoder: ``"decord"``, ``"av"``, ``"cv2"``, or None for the first installed one.

    Raises:
        UnreadableFile: if the file can't be opened, or has no frame.
        ConfigError: if the decoder is unknown.
    """
    check_decoder(decoder)
    return DECODERS[decoder or next(filter(_is_usable, DECODERS))](path)


def read_frames(path: str | os.PathLike, indices: Sequence[int] | None = None) -> np.ndarray:
    """Read all frames of a video file, or those with the given numbers.

    Returns:
        ``(number, height, width, 3)``, uint8, RGB.

    Raises:
        UnreadableFile: if the file is not a video or damaged, or a frame doesn't exist.
    """
    video = open_video(path)
    return video.read(range(video.num_frames) if indices is None else indices)
