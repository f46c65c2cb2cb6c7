"""Which keypoints a mirror exchanges, by their names."""

import pytest

from attn_mm.datasets.generated.jointed_figure import KEYPOINTS
from attn_mm.new.tasks.pose import mirror_names


@pytest.mark.parametrize(
    "names, pairs",
    [
        (["nose", "ls", "rs", "lh", "rh"], {"ls": "rs", "lh": "rh"}),
        (["eye_l", "eye_r", "tail"], {"eye_l": "eye_r"}),
        (["LeftPaw", "RightPaw", "Left"], {"LeftPaw": "RightPaw"}),
        (["lip", "rim", "root"], {}),
        (["front left foot", "front right foot"], {"front left foot": "front right foot"}),
    ],
)
def test_left_and_right(names, pairs):
    assert {one: other for one, other in mirror_names(names).items() if other} == {
        **pairs,
        **{other: one for one, other in pairs.items()},
    }


def test_all_of_coco_but_the_nose_have_a_partner():
    mirrored = mirror_names(KEYPOINTS)
    assert [name for name, other in mirrored.items() if not other] == ["nose"]
    assert all(mirrored[other] == name for name, other in mirrored.items() if other)
