"""mmaction2's ImgAug and NumPy's own bool."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

pytest.importorskip("mmaction")


@pytest.mark.skipif("bool" not in vars(np), reason="this NumPy has no bool of its own")
def test_numpy_keeps_its_bool():
    from mmaction.datasets.transforms.wrappers import ImgAug

    own = np.bool
    # Also where imgaug is not installed, which is found only afterwards.
    with contextlib.suppress(ImportError):
        ImgAug("default")
    assert np.bool is own
