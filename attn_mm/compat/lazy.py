"""Patch a package when it is imported, so that unused patches cost nothing.

:func:`serve` provides a module that an installed package lacks. It never hides a
real module: its finder is last in ``sys.meta_path``, so Python asks it only after
every other finder has failed. :func:`after_import` changes an existing module,
right after that module has run.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


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


def serve(name: str, fill: Callable[[ModuleType], None] = lambda module: None) -> None:
    """Provide the module ``name`` if no installed package does.

    Args:
        name: full dotted name, such as ``'mmcv._ext'``.
        fill: called once with the new, empty module when it is first imported.
    """
    _finder.fillers[name] = fill
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)


class _ImportedModules(importlib.abc.MetaPathFinder):
    """The import hook behind :func:`after_import`, first in ``sys.meta_path``."""

    def __init__(self) -> None:
        self.patches: dict[str, list[Callable[[ModuleType], None]]] = {}
        self.searching: set[str] = set()

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in self.patches or fullname in self.searching:
            return None
        self.searching.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self.searching.discard(fullname)
        if spec is None or fullname in sys.modules:
            # On a reload this is the spec of the first import, which patches already.
            return spec
        loader: Any = spec.loader
        run = loader.exec_module

        def run_and_patch(module: ModuleType) -> None:
            run(module)
            for patch in self.patches[fullname]:
                patch(module)

        loader.exec_module = run_and_patch
        return spec


_watcher = _ImportedModules()


def after_import(name: str, patch: Callable[[ModuleType], None]) -> None:
    """Call ``patch(module)`` when the module ``name`` is imported; if it already is, call it now."""
    if name in sys.modules:
        patch(sys.modules[name])
        return
    _watcher.patches.setdefault(name, []).append(patch)
    if _watcher not in sys.meta_path:
        sys.meta_path.insert(0, _watcher)
