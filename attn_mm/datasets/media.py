"""Read and write images, and write videos, with OpenCV; read videos with PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np

from attn_mm.datasets.video import Video
from attn_mm.errors import UnreadableFile, UnsuitableImage, UserError
from attn_mm.utils.files import check_regular, natural, writing

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")

DEFAULT_FRAME_RATE = 25.0

_MAY_BE_DEEP = (".exr", ".hdr", ".jp2", ".pgm", ".pnm", ".ppm", ".tif", ".tiff")


def read_image(path: Path) -> np.ndarray:
    """Read an image as uint8 BGR.

    Raises:
        UnreadableFile: if it can't be decoded, is truncated, or has 16 bits per channel.
    """
    check_regular(path)
    try:
        content = np.fromfile(os.fsencode(path), np.uint8)
        # Of a truncated JPEG file, imread makes a whole picture; imdecode does not.
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except OSError as error:
        raise UnreadableFile(f"{path} can't be read ({error.strerror})") from error
    except cv2.error:
        image = None
    if image is None:
        raise UnreadableFile(
            f"{path} can't be read as an image: it is damaged, truncated or of another format"
        )
    check_depth(path)
    return image


def check_depth(path: str | Path) -> None:
    """Check that an image has 8 bits per channel.

    OpenCV divides 16 bits by 256: of a camera with 12 bits it makes a picture with values from 0 to 15.

    Raises:
        UnsuitableImage: it has more bits.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".png":
        with open(path, "rb") as file:
            # The header: signature, length and name of the first chunk, width, height, depth.
            bits = file.read(25)[24:]
        deep = bits == b"\x10"
    elif suffix in _MAY_BE_DEEP:
        image = cv2.imdecode(np.fromfile(os.fsencode(path), np.uint8), cv2.IMREAD_UNCHANGED)
        deep = image is not None and image.dtype != np.uint8
    else:
        return
    if deep:
        raise UnsuitableImage(
            f"{path} has 16 bits per channel, which are read as dark 8-bit values: convert it to 8 bits"
        )


def write_image(path: Path, picture: np.ndarray) -> None:
    """Write an image (uint8 BGR).

    Raises:
        UserError: if writing fails.
    """
    # imwrite takes no name that isn't UTF-8.
    try:
        encoded, content = cv2.imencode(path.suffix, picture)
    except cv2.error:
        encoded = False
    if not encoded:
        raise UserError(f"{path} can't be written: OpenCV can't encode {path.suffix} of this size")
    with writing(path):
        path.write_bytes(content.tobytes())


def _opencv_name(path: Path) -> str:
    """The name of a video for OpenCV, which would crash if it isn't UTF-8; UserError then."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{path} can't be written: OpenCV needs a name in UTF-8; rename the input") from error
    return str(path)


class VideoFrames:
    """The frames of a video as uint8 BGR; iterate over them once.

    Attributes:
        rate: frames per second.
        count: the number of frames according to the file.

    Raises:
        UnreadableFile: if the video can't be decoded.
        UserError: if PyAV is missing or too old.
    """

    def __init__(self, path: Path) -> None:
        video = Video(path)
        self._frames = video.in_order("bgr24")
        first = next(self._frames, None)
        if first is None:
            raise UnreadableFile(f"{path} can't be read as a video: its first frame is damaged")
        self._first = first
        self.rate = video.rate if video.rate and video.rate < 1000 else DEFAULT_FRAME_RATE
        self.count = video.claimed

    def __iter__(self) -> Iterator[np.ndarray]:
        yield self._first
        yield from self._frames


def breaks_off(path: Path, seen: int, count: int) -> str | None:
    """Message about a truncated video, or None if all frames were read.

    Args:
        path: the video.
        seen: number of frames that were read.
        count: number of frames according to the file.
    """
    if seen >= count:
        return None
    return f"{path} is truncated: {seen} of its {count} frames can be read"


class VideoFile(AbstractContextManager):
    """Writes pictures of equal size to an MP4 video; the first picture creates the file."""

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate = path, rate
        self._writer: cv2.VideoWriter | None = None
        self._blank: np.ndarray | None = None
        self._blanks_before = 0

    def write(self, picture: np.ndarray | None) -> None:
        """Append a picture (uint8 BGR), or a white one for None."""
        picture = self._blank if picture is None else picture
        if picture is None:
            self._blanks_before += 1
            return
        if self._writer is None:
            self._writer = self._begun(picture)
        self._writer.write(picture)

    def _begun(self, picture: np.ndarray) -> cv2.VideoWriter:
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(_opencv_name(self._path), codec, self._rate, picture.shape[1::-1])
        if not writer.isOpened():
            raise UserError(f"{self._path} can't be written: this OpenCV has no MP4 encoder, or no access")
        self._blank = np.full_like(picture, 255)
        for _ in range(self._blanks_before):
            writer.write(self._blank)
        return writer

    def __exit__(self, *_) -> None:
        if self._writer is not None:
            self._writer.release()


def open_input(path: Path) -> list[Path] | VideoFrames:
    """Open an image, a folder of images or a video.

    Returns:
        The paths of the images, or the video.

    Raises:
        UserError: if there is none, or it can't be decoded. The images of a folder
            are not decoded here.
    """
    if path.is_dir():
        return _files(path, "image", IMAGE_SUFFIXES)
    if _kind(path) == "image":
        read_image(path)
        return [path]
    return VideoFrames(path)


def open_videos(path: Path) -> list[Path]:
    """List a video, or the videos of a folder in natural order.

    Raises:
        UserError: if there is none, or it can't be decoded. The videos of a folder
            are not decoded here.
    """
    if path.is_dir():
        return _files(path, "video", VIDEO_SUFFIXES)
    if _kind(path) == "image":
        raise UserError(f"{path} is an image: action recognition needs a video ({' '.join(VIDEO_SUFFIXES)})")
    VideoFrames(path)
    return [path]


def _files(folder: Path, kind: str, suffixes: tuple[str, ...]) -> list[Path]:
    found = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.is_file()]
    if not found:
        raise UserError(f"{folder} contains no {kind} ({' '.join(suffixes)})")
    return sorted(found, key=natural)


def _kind(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    for kind, suffixes in (("image", IMAGE_SUFFIXES), ("video", VIDEO_SUFFIXES)):
        if path.suffix.lower() in suffixes:
            return kind
    raise UserError(
        f"{path} is neither an image ({' '.join(IMAGE_SUFFIXES)}) nor a video ({' '.join(VIDEO_SUFFIXES)})"
    )
