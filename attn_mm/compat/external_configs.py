"""A base such as ``mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py`` is found without reading metafiles.

mmengine 0.10.7 (``Config._get_cfg_path``, config/config.py:1246) reloads pkg_resources and parses every
``metafile.yml`` of the package for each such base, which takes 0.1 to 0.3 s each time, only to end at the
file of that name. It knows no scope but those of OpenMMLab.

What is no base at all, it reports in words of its own: a number, an unknown package, one colon,
a config that leads back to itself.

With the patch ``attn_mm::td/...py`` is a base, too, and ``read_base`` finds ``attn_mm.configs``, in a wheel
and in a checkout.
"""

from __future__ import annotations

import os.path as osp
from collections.abc import Collection
from contextvars import ContextVar
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from attn_mm.compat.lazy import after_import
from attn_mm.errors import UserError
from attn_mm.utils.config_names import CONFIGS, shipped_config
from attn_mm.utils.parser import closest


def _check(base: object, filename: str, scopes: Collection[str]) -> None:
    """UserError if ``base`` can't be the ``_base_`` of the config ``filename``."""
    if not isinstance(base, str) or not base:
        raise UserError(f"_base_ must be the path of a config, or a list of paths; got {base!r}")
    scope, colon, name = base.partition(":")
    external = name.startswith(":")
    known = scope in scopes or (scope.isidentifier() and find_spec(scope) is not None)
    if not colon or (external and known) or osp.exists(osp.join(osp.dirname(filename), base)):
        return
    if meant := closest(scope, scopes):
        raise UserError(f"_base_ {base!r} is no config; did you mean {meant}::{name.lstrip(':')}?")
    if external:
        raise UserError(f"_base_ {base!r}: there is no package {scope!r}; attn_mm's configs are attn_mm::...")


def _end_circles(module: ModuleType) -> None:
    plain = module.Config._file2dict
    reading: ContextVar[tuple[str, ...]] = ContextVar("reading", default=())

    @wraps(plain)
    def file2dict(filename, *args, **kwargs):
        path = osp.abspath(filename)
        if path in reading.get():
            raise UserError(f"by its _base_ {filename} inherits itself")
        token = reading.set((*reading.get(), path))
        try:
            return plain(filename, *args, **kwargs)
        finally:
            reading.reset(token)

    module.Config._file2dict = staticmethod(file2dict)


def _look_for_the_file(module: ModuleType) -> None:
    plain = module.Config._get_cfg_path
    scopes = ["attn_mm", *import_module("mmengine.config.utils").MODULE2PACKAGE]

    @wraps(plain)
    def get_cfg_path(cfg_path, filename):
        _check(cfg_path, filename, scopes)
        scope, mark, name = cfg_path.partition("::")
        if mark and scope == "attn_mm":
            # Its configs name types of a framework, which this scope doesn't have.
            return shipped_config(name), None
        spec = find_spec(scope) if mark and scope.isidentifier() else None
        for package in (spec.submodule_search_locations or ()) if spec else ():
            file = Path(package, ".mim", "configs", name)
            if file.is_file():
                return str(file), scope
        return plain(cfg_path, filename)

    module.Config._get_cfg_path = staticmethod(get_cfg_path)
    find_package = module.get_installed_path

    @wraps(find_package)
    def get_installed_path(package):
        return str(CONFIGS.parent) if package == "attn_mm" else find_package(package)

    vars(module)["get_installed_path"] = get_installed_path


def patch() -> None:
    after_import("mmengine.config.config", _look_for_the_file)
    after_import("mmengine.config.config", _end_circles)
