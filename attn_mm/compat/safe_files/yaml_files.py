"""Read YAML that is plain data."""

from __future__ import annotations

from typing import Any

import yaml

from attn_mm.compat.safe_files.budget import Refused, check_tree
from attn_mm.errors import UnreadableFile, UnsafeFile

# In C where PyYAML has it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_yaml(file: Any) -> Any:
    """Load YAML that is plain data, in place of ``yaml.load``.

    Raises:
        UnsafeFile: if it names Python objects, or repeats itself into more memory than it needs.
        UnreadableFile: if it is damaged.
    """
    name = getattr(file, "name", "the YAML file")
    try:
        content = yaml.load(file, Loader=_LOADER)
        check_tree(content)
    except yaml.constructor.ConstructorError as error:
        raise UnsafeFile(f"refused {name}: {error.problem}, and only plain data is read") from None
    except Refused as error:
        raise UnsafeFile(f"refused {name}: {error}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UnreadableFile(f"{name} can't be read as YAML: it is damaged or of another format") from error
    return content
