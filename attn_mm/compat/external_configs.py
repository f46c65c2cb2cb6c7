"""A base such as ``mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py`` is found without reading metafiles.

mmengine 0.10.7 (``Config._get_cfg_path``, config/config.py:1246) reloads pkg_resources and parses every
``metafile.yml`` of the package for each such base, which takes 0.1 to 0.3 s each time, only to end at the
file of that name. It knows no scope but those of OpenMMLab.

With the patch ``attn_mm::td/...py`` is a base, too, and ``read_base`` finds ``attn_mm.configs``, in a wheel
and in a checkout.
"""

from __future__ import annotations

from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from attn_mm.compat.lazy import after_import
from attn_mm.utils.config_names import CONFIGS, shipped_config


def _look_for_the_file(module: ModuleType) -> None:
    plain = module.Config._get_cfg_path

    @wraps(plain)
    def get_cfg_path(cfg_path, filename):
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
