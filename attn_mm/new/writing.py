"""Write a config and the annotations that belong to it."""

from __future__ import annotations

import ast
from pathlib import Path

from yapf.yapflib.yapf_api import FormatCode

from attn_mm.errors import UserError
from attn_mm.new.literals import comment
from attn_mm.new.plan import Plan, annotations_folder
from attn_mm.utils.files import make_folder, write_atomically

# Black's way to break lines, as near as yapf comes.
_STYLE = (
    "{based_on_style: facebook, column_limit: 110, blank_line_before_nested_class_or_def: false, "
    "split_before_first_argument: true, each_dict_entry_on_separate_line: false}"
)

# Of all that a config calls.
_CALLS = ("dict", "enumerate", "keypoints.items")


def formatted(plan: Plan) -> str:
    """The text of a plan's config, laid out, with what was found as its first lines."""
    head = map(comment, ["Written by attn-mm new; change what you like.", *plan.report.found])
    text, _ = FormatCode(plan.config, style_config=_STYLE)
    config = "".join(head) + text
    _check_that_it_only_assigns(config)
    return config


def _check_that_it_only_assigns(config: str) -> None:
    """Refuse a config that would run anything, such as code in the name of a class."""
    for node in ast.walk(ast.parse(config)):
        calls = isinstance(node, ast.Call) and ast.unparse(node.func) not in _CALLS
        if calls or (isinstance(node, ast.stmt) and not isinstance(node, ast.Assign)):
            line = ast.unparse(node).partition("\n")[0]
            raise UserError(f"a name in the data would run as code in the config: {line[:80]}; rename it")


def write(target: Path, config: str, files: dict[str, str]) -> list[Path]:
    """Write a config, and its annotations into a folder beside it; returns their paths."""
    make_folder(target.parent)
    folder = target.with_name(annotations_folder(target.stem))
    if files:
        make_folder(folder)
    for name, text in files.items():
        write_atomically(folder / name, text)
    write_atomically(target, config)
    return [target, *(folder / name for name in files)]
