"""A model is loaded, or the user is told in one line why it can't be."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config

from attn_mm.errors import UserError
from attn_mm.frameworks.loading import load_model


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ({}, "c.py has no model"),
        ({"model": 3}, "c.py has no model"),
        (
            {"model": {"type": "NoSuchModel"}},
            "the model of c.py can't be built: there is no model of the type NoSuchModel",
        ),
        ({"model": {"backbone": {}}}, "the model of c.py can't be built: KeyError"),
        (
            {
                "model": {
                    "type": "ImageClassifier",
                    "no_such_option": 1,
                    "backbone": {"type": "VGG", "depth": 11},
                }
            },
            "the model of c.py can't be built: ImageClassifier has no 'no_such_option'; if a base",
        ),
    ],
)
def test_a_config_whose_model_cannot_be_built_is_named(tmp_path, model, complaint):
    checkpoint = tmp_path / "c.pth"
    torch.save({"state_dict": {"weight": torch.ones(1)}}, checkpoint)
    path = tmp_path / "c.py"
    Config({"default_scope": "mmpretrain", **model}).dump(path)
    cfg = Config.fromfile(path)
    with pytest.raises(UserError) as raised:
        load_model(cfg, str(checkpoint), "cpu")
    message = str(raised.value).replace(str(path), "c.py")
    assert message.startswith(complaint) and "\n" not in message
