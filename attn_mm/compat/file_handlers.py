"""``mmengine.load`` reads annotations without running code from them.

mmengine 0.10.7 gives ``.pkl`` files to ``pickle.load`` and YAML files to PyYAML's
unrestricted loader (mmengine/fileio/handlers/pickle_handler.py:12, yaml_handler.py:17).
Both run any code in the file. mmaction's skeletons, mmdet's proposals and the predictions
of ``attn-mm test --out`` are pickles.

The patch registers handlers of the same formats: pickles go through
:mod:`attn_mm.compat.safe_files`, YAML through the safe loader. mmpretrain's RAM reads
a pickle by itself (models/multimodal/ram/ram.py:120, :126); it gets the same function.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from attn_mm.compat.lazy import after_import
from attn_mm.errors import UnreadableFile, UnsafeFile


def load_pickle(file: Any, encoding: str = "ASCII", **_: Any) -> Any:
    """Load a pickle of plain values, arrays, tensors and mmengine's records, in place of ``pickle.load``.

    Args:
        file: a binary file.
        encoding: of the text that Python 2 wrote.

    Raises:
        UnsafeFile: if it asks for code, or for more memory than it needs.
        UnreadableFile: if it is damaged.
    """
    from attn_mm.compat.safe_files import budget, torch_files

    name = getattr(file, "name", "the pickle")
    try:
        return torch_files.load(file, encoding)
    except budget.Refused as error:
        raise UnsafeFile(f"refused {name}: {error}; save it as JSON, or as plain values and arrays") from None
    # A damaged pickle can fail in any way.
    except Exception as error:
        raise UnreadableFile(
            f"{name} can't be read as a pickle: it is damaged or of another format"
        ) from error


def _register(handlers: Any) -> None:
    class Pickle(handlers.PickleHandler):
        def load_from_fileobj(self, file: Any, **options: Any) -> Any:
            return load_pickle(file, **options)

    class Yaml(handlers.YamlHandler):
        def load_from_fileobj(self, file: Any, **_: Any) -> Any:
            # PyYAML is mmengine's requirement, not ours.
            from attn_mm.compat.safe_files.yaml_files import load_yaml

            return load_yaml(file)

    handlers._register_handler(Pickle(), ["pickle", "pkl"])
    handlers._register_handler(Yaml(), ["yaml", "yml"])


class _Pickle:
    """Stands for the module ``pickle`` where a framework only loads with it."""

    load = staticmethod(load_pickle)


def _replace_pickle(module: ModuleType) -> None:
    module.pickle = _Pickle  # type: ignore[attr-defined]


def patch() -> None:
    after_import("mmengine.fileio.handlers.registry_utils", _register)
    after_import("mmpretrain.models.multimodal.ram.ram", _replace_pickle)
