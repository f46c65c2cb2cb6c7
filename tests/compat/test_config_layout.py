"""A config is laid out once for each of its texts."""

import pytest
from mmengine.config import Config
from mmengine.config import config as module

from attn_mm.compat.config_layout import _remember


@pytest.fixture
def layouts(monkeypatch):
    """The texts that yapf lays out while the test runs."""
    texts = []

    def lay_out(text, **options):
        texts.append(text)
        return f"{text}# laid out", True

    monkeypatch.setattr(module, "FormatCode", lay_out)
    _remember(module)
    return texts


def test_the_same_text_is_laid_out_once(layouts):
    cfg = Config(dict(lr=0.1))
    first = cfg.pretty_text
    assert first.endswith("# laid out") and cfg.pretty_text == first == Config(dict(lr=0.1)).pretty_text
    assert len(layouts) == 1
    cfg.lr = 0.2
    assert "0.2" in cfg.pretty_text and len(layouts) == 2


def test_a_text_that_cannot_be_laid_out_is_an_error_each_time(monkeypatch):
    monkeypatch.setattr(module, "FormatCode", lambda text, **options: 1 / 0)
    _remember(module)
    for _ in range(2):
        with pytest.raises(SyntaxError, match="Failed to format"):
            str(Config(dict(lr=0.1)).pretty_text)
