"""Names and paths of a data set as Python source, in which they can neither run nor be filled in."""

from __future__ import annotations

import json

from attn_mm.errors import UserError, printable


def source(value: object) -> str:
    """A value as Python source with double quotes, as of ``repr`` otherwise.

    Raises:
        UserError: there are two opening braces in a text.
    """
    if isinstance(value, str):
        # mmengine fills in {{ fileDirname }} and the like in whatever config it reads. An escape would keep
        # them out of this one, but not out of the copies that runs write.
        if "{{" in value:
            raise UserError(f"the name {value!r} has '{{{{', which configs replace by other text: rename it")
        return printable(json.dumps(value, ensure_ascii=False))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{source(key)}: {source(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(source, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(source, value))}{',' * (len(value) == 1)})"
    return repr(value)


def comment(line: str) -> str:
    """A line of a config that is a comment, whatever is in it."""
    return f"# {printable(line)}\n".replace("{{", "{ {")


OWN = "{{ fileDirname }}"
"""What mmengine replaces by the folder of a config."""
