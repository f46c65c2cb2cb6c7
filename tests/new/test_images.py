"""The size of an image is that of the picture that a network gets."""

import pytest
from PIL import ExifTags, Image

from attn_mm.new import images


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_header_has_the_size_of_the_decoded_image(suffix, tmp_path, monkeypatch):
    paths = []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        paths.append(tmp_path / f"{orientation}{suffix}")
        Image.new("RGB", (64, 48)).save(paths[-1], exif=exif)
    decoded = images.look_at_images(paths)
    monkeypatch.setattr(images, "_DECODED", 0)
    assert images.look_at_images(paths) == decoded
    assert decoded[paths[0]] == (64, 48)
