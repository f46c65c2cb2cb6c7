"""Images that are not whole, or not of 8 bits, are no pictures."""

from __future__ import annotations

import os
import shutil

import cv2
import numpy as np
import pytest
import small

from attn_mm.datasets.media import VideoFile, open_input, read_image
from attn_mm.errors import UserError


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif", ".ppm"])
@pytest.mark.parametrize("share", [0.995, 0.5, 0.1, 0.0])
def test_a_truncated_image_is_refused(tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    picture = small.picture(200, 300)
    cv2.imwrite(str(path), picture)
    assert read_image(path).shape == picture.shape
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="damaged, truncated or of another format"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_an_image_of_16_bits_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), small.picture().astype(np.uint16) * 16)
    with pytest.raises(UserError, match="has 16 bits per channel"):
        read_image(path)


def test_a_file_name_that_is_not_unicode(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), small.picture())
    path = os.path.join(os.fsencode(tmp_path), b"a\xff.png")
    shutil.move(tmp_path / "a.png", path)
    (found,) = open_input(tmp_path)
    assert read_image(found).shape == (48, 64, 3)


def test_a_video_whose_name_is_not_unicode_is_not_written(tmp_path):
    with (
        VideoFile(tmp_path / "a\udcff.mp4", 25) as video,
        pytest.raises(UserError, match="can't be written: OpenCV needs a name in UTF-8"),
    ):
        video.write(small.picture())


def test_a_pipe_in_a_folder_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UserError, match="contains no image"):
        open_input(tmp_path)
