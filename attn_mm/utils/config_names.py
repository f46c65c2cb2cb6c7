"""Find the configs that attn_mm ships by their current or previous names."""

from __future__ import annotations

import os.path as osp
import posixpath
from functools import cache
from pathlib import Path, PurePosixPath

import yaml

from attn_mm.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
_PACKAGED = _PACKAGE / ".mim/configs"
# A checkout without symbolic links, as on Windows, has text files in their place.
CONFIGS = _PACKAGED.resolve() if _PACKAGED.is_dir() else _PACKAGE.parent / "configs"
"""The folder of the configs, in an installed attn_mm or in its checkout."""


def shipped_config(path: str) -> str:
    """Find the file of a config by its ``path`` from ``configs/`` on, or by its path inside ``configs/``.

    Raises:
        UserError: there is no config of that name.
    """
    name = PurePosixPath(posixpath.normpath(path)).as_posix().removeprefix("configs/")
    # An absolute path is nobody's name.
    config = CONFIGS / name.lstrip("/")
    if osp.isfile(config):
        return str(config)
    if not name.endswith(".py") and osp.isfile(f"{config}.py"):
        raise UserError(f"config {path} does not exist: it is configs/{name}.py")
    new = new_name(path)
    raise UserError(f"config {path} " + (f"is now {new}" if new else "does not exist"))


def new_name(path: str) -> str | None:
    """The current path, from ``configs/`` on, of a config of the previous release; None if unknown."""
    parts = PurePosixPath(path if path.endswith(".py") else f"{path}.py").parts
    if "configs" in parts:
        parts = parts[len(parts) - parts[::-1].index("configs") :]
    new = _renamed().get("/".join(parts))
    return new and f"configs/{new}"


@cache
def _renamed() -> dict[str, str]:
    return yaml.safe_load((CONFIGS / "renamed.yml").read_text(encoding="utf-8"))
