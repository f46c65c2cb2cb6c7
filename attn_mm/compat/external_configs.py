"""A base such as ``mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py`` is found without reading metafiles.

mmengine 0.10.7 (``Config._get_cfg_path``, config/config.py:1246) reloads pkg_resources and parses every
``metafile.yml`` of the package for each such base, which takes 0.1 to 0.3 s each time, only to end at the
file of that name.
"""

from __future__ import annotations

from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from attn_mm.compat.lazy import after_import


def _look_for_the_file(module: ModuleType) -> None:
    plain = module.Config._get_cfg_path

    @wraps(plain)
    def get_cfg_path(cfg_path, filename):
        scope, mark, name = cfg_path.partition("::")
        spec = find_spec(scope) if mark and scope.isidentifier() else None
        for package in (spec.submodule_search_locations or ()) if spec else ():
            file = Path(package, ".mim", "configs", name)
            if file.is_file():
                return str(file), scope
        return plain(cfg_path, filename)

    module.Config._get_cfg_path = staticmethod(get_cfg_path)


def patch() -> None:
    after_import("mmengine.config.config", _look_for_the_file)
