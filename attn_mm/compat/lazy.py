"""Serve a module that an installed package should have and lacks, only when it is imported.

A mend must cost nothing where nobody asks for the mended package, and must
never hide a real module: the finder stands last in ``sys.meta_path``, so it is
asked only after every ordinary finder has failed.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable
from types import ModuleType


class MissingModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The import hook behind :func:`serve`."""

    def __init__(self) -> None:
        self.fillers: dict[str, Callable[[ModuleType], None]] = {}

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in self.fillers:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        self.fillers[module.__name__](module)


_finder = MissingModules()


def serve(name: str, fill: Callable[[ModuleType], None]) -> None:
    """Let ``fill(module)`` populate module ``name`` when nothing else provides it.

    Args:
        name: full dotted name, such as ``'mmcv._ext'``.
        fill: called once, with the new empty module, at its first import.
    """
    _finder.fillers[name] = fill
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)
