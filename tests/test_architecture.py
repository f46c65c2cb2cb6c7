"""The walls of the package: imports run one way, and commands are independent of each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from attn_mm.cli.commands import COMMANDS

REPO = Path(__file__).parents[1]

# From the ground up: a room imports rooms of lower floors only. Beside its rooms the package has modules.
FLOORS = (
    (
        "interrupts",
        "sigterm",
    ),
    ("errors",),
    ("utils", "registry"),
    ("layers",),
    ("graft", "compat"),
    ("models", "maps", "datasets"),
    ("frameworks",),
    ("inference", "describe"),
    ("run", "deploy", "networks"),
    ("explorer", "new", "papers"),
    ("cli",),
    ("__main__",),
)


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its name, parsed."""
    found = {}
    for path in sorted(REPO.glob("attn_mm/**/*.py")):
        name = ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(), str(path))
    return found


def imports(tree: ast.AST) -> Iterator[str]:
    """The package's modules that a file imports, in functions and for type checkers, too."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.partition(".")[0] == "attn_mm":
                # What is imported from a module may be its function, and of a package its module.
                while name not in modules():
                    name = name.rpartition(".")[0]
                yield name


@cache
def graph() -> dict[str, set[str]]:
    """The modules that each module imports."""
    return {name: set(imports(tree)) - {name} for name, tree in modules().items()}


def room(module: str) -> str:
    return module.split(".")[1]


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


@cache
def commands() -> set[str]:
    """The modules with a ``main``."""
    return {name for name, tree in modules().items() if any(f.name == "main" for f in functions(tree))}


@cache
def sources() -> dict[str, tuple[str, ast.Module]]:
    """The text of each file of the package, the tools and the benchmarks, and the same parsed."""
    paths = [path for folder in ("attn_mm", "benchmarks", "tools") for path in REPO.glob(f"{folder}/**/*.py")]
    texts = {str(path.relative_to(REPO)): path.read_text() for path in paths}
    return {name: (text, ast.parse(text)) for name, text in texts.items()}


def test_every_room_has_a_floor():
    rooms = {room(name) for name in modules() if "." in name}
    assert rooms == {room for floor in FLOORS for room in floor}


def test_imports_run_downwards():
    height = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    upward = [
        f"{name} -> {other}"
        for name, others in graph().items()
        for other in others
        if "." in name and room(name) != room(other) and height[room(name)] <= height[room(other)]
    ]
    assert upward == []


def test_no_circle_of_imports():
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_only_the_package_imports_the_fixes_as_a_whole():
    assert [name for name, others in graph().items() if "attn_mm.compat" in others] == ["attn_mm"]


def test_the_table_has_every_command_and_tools_and_scripts_run_them():
    scripts = re.findall(r'= "(attn_mm\.[\w.]+):main"', (REPO / "pyproject.toml").read_text())
    tools = {
        name for path, (_, tree) in sources().items() if path.startswith("tools/") for name in imports(tree)
    }
    table = {command.module for command in COMMANDS.values()}
    assert scripts and set(scripts) - {"attn_mm.cli.main"} <= tools <= table
    assert commands() == table | {"attn_mm.cli.main"}


def test_only_tools_import_commands():
    importing = [
        f"{path} -> {name}"
        for path, (_, tree) in sources().items()
        if not path.startswith(("tools/", "attn_mm/__main__"))
        for name in imports(tree)
        if name in commands()
    ]
    assert importing == []


def takes_a_command_line(function: ast.FunctionDef) -> bool:
    """Whether a parameter is a parsed command line, by its annotation or by what is read of it."""
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    values = (node.value for node in ast.walk(function) if isinstance(node, ast.Attribute))
    read = {value.id for value in values if isinstance(value, ast.Name)}
    return any(
        "Namespace" in ast.unparse(arg.annotation) if arg.annotation else arg.arg == "args" and "args" in read
        for arg in given
    )


def test_a_parsed_command_line_stays_in_its_command():
    """``from_args`` makes a dataclass of it; other functions take that, or plain values."""
    taking = [
        f"{path}:{function.name}"
        for path, (_, tree) in sources().items()
        for function in functions(tree)
        if takes_a_command_line(function)
    ]
    assert taking == ["attn_mm/utils/flags.py:from_args"]
    assert [path for path, (text, _) in sources().items() if "Namespace(" in text] == []


def test_nobody_looks_at_its_caller_and_nothing_is_mocked():
    found = {
        f"{path}: {word}"
        for path, (text, _) in sources().items()
        for word in ("_getframe", "currentframe", "inspect.stack", "unittest")
        if word in text
    }
    assert found == set()


def replaced_functions(tree: ast.Module) -> Iterator[ast.AST]:
    """Where a file puts a function in the place of another object's method: ``x.f = g``."""
    defined = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))} | {
        node.arg
        for node in ast.walk(tree)
        if isinstance(node, ast.arg) and node.annotation and "Callable" in ast.unparse(node.annotation)
    }

    def is_function(value: ast.AST) -> bool:
        if isinstance(value, ast.Tuple):
            return any(map(is_function, value.elts))
        if isinstance(value, ast.Call):
            # A partial, a wrapper made by a function of the file, or an object that takes calls.
            return isinstance(value.func, ast.Name) and value.func.id in {"partial", "wraps"} | callers
        return isinstance(value, ast.Lambda) or (isinstance(value, ast.Name) and value.id in defined)

    callers = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(f.name == "__call__" for f in functions(node))
    } | {f.name for f in functions(tree) if any(isinstance(n, ast.FunctionDef) for n in f.body)}

    def is_foreign(target: ast.AST) -> bool:
        if isinstance(target, ast.Tuple):
            return any(map(is_foreign, target.elts))
        return isinstance(target, ast.Attribute) and ast.unparse(target.value) not in ("self", "cls")

    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            if is_function(node.value) and any(map(is_foreign, node.targets)):
                yield node
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr":
            target, _, value = node.args
            if ast.unparse(target) != "self" and is_function(value):
                yield node


@pytest.mark.parametrize(
    "code",
    [
        "def f(): pass\nx.y = f",
        "x.y, x.z = 1, lambda: 0",
        "runner.build = partial(g, runner.build)",
        "def outer(x):\n    def f(): pass\n    setattr(x.y, 'z', f)",
        "def swap(x, name: str, f: Callable):\n    setattr(x, name, f)",
        "class F:\n    def __call__(self): pass\nx.y = F(x)",
    ],
)
def test_the_rule_about_methods_finds(code):
    assert list(replaced_functions(ast.parse(code)))


def test_no_method_of_another_object_is_replaced():
    """A hook, a subclass or a wrapper does it; faults upstream are patched in ``compat``."""
    found = [
        f"{path}:{node.lineno}"
        for path, (_, tree) in sources().items()
        if path.startswith("attn_mm/") and not path.startswith("attn_mm/compat/")
        for node in replaced_functions(tree)
    ]
    assert found == []
