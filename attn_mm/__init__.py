"""Attention for OpenMMLab networks, grafted from the config."""

from importlib.metadata import version

from attn_mm.errors import check_current_folder

# Before torch is imported, which aborts Python without a current folder.
check_current_folder()

from attn_mm import compat  # noqa: E402

__version__ = version("attn-mm")

compat.patch()
