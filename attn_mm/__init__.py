"""Attention for CNNs: from the config of an OpenMMLab network, or by ``attach`` for any torch network."""

from attn_mm.interrupts import report_early_interrupts

# Before anything that takes time.
report_early_interrupts()

from importlib import import_module  # noqa: E402
from importlib.metadata import version  # noqa: E402
from typing import Any  # noqa: E402

from attn_mm.errors import check_current_folder  # noqa: E402

# Before torch is imported, which aborts Python without a current folder.
check_current_folder()

from attn_mm import compat  # noqa: E402

__version__ = version("attn-mm")

compat.patch()

_FUNCTIONS = {
    "attach": "attn_mm.networks",
    "list_attention": "attn_mm.networks",
    "list_places": "attn_mm.describe.places",
    "load": "attn_mm.networks",
    "summary": "attn_mm.describe.places",
}
"""Public functions and their modules, which are imported when they are first used."""


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_FUNCTIONS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_FUNCTIONS])
