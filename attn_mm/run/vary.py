"""Find the options of a config by short names, and set them."""

from __future__ import annotations

import ast
import copy
import difflib
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, Registry

from attn_mm.errors import UserError
from attn_mm.models.grafts.layer import FILLED_IN, put_layer
from attn_mm.models.grafts.turns import find_graft
from attn_mm.models.layers import FOREIGN, PLUGINS
from attn_mm.models.lazy import CLASSES
from attn_mm.utils.config import type_name

# The entries of a config that decide how a training ends; what else is there names parts of these, or is set
# by the tool.
_READ = (
    *("auto_scale_lr", "compile", "custom_hooks", "data_preprocessor", "default_hooks", "default_scope"),
    *("env_cfg", "find_unused_parameters", "load_from", "model", "model_wrapper_cfg", "optim_wrapper"),
    *("param_scheduler", "runner_type", "sync_bn", "train_cfg", "train_dataloader"),
    *("val_cfg", "val_dataloader", "val_evaluator"),
)
_CLOSED = {")": "(", "]": "[", "}": "{"}
_QUOTES = "'\""


@dataclass(frozen=True)
class Option:
    """An option of a config, and the values to try.

    Attributes:
        name: as in tables, such as ``TAM.group_size``.
        paths: where the config has it; a network may have several layers of one type.
        values: the values, in order.
    """

    name: str
    paths: tuple[tuple[str, ...], ...]
    values: tuple[Any, ...]


def split_vary(text: str) -> tuple[str, tuple[Any, ...]]:
    """Parse ``KEY=V1,V2,...``; commas inside brackets or quotes belong to a value.

    Raises:
        ValueError: there is no key or value, or a value is neither a Python literal nor a word.
    """
    key, separator, rest = text.partition("=")
    if not (key and separator and rest):
        raise ValueError(f"expected KEY=V1,V2,..., got {text!r}")
    values = {repr(value): value for value in map(_value, _pieces(rest))}
    return key, tuple(values.values())


def _pieces(text: str) -> Iterator[str]:
    """Split at the commas that are outside of brackets and quotes."""
    opened: list[str] = []
    piece = ""
    for letter in text:
        if opened and opened[-1] in _QUOTES:
            if letter == opened[-1]:
                opened.pop()
        elif letter in _QUOTES or letter in _CLOSED.values():
            opened.append(letter)
        elif letter in _CLOSED and opened and opened[-1] == _CLOSED[letter]:
            opened.pop()
        if letter == "," and not opened:
            yield piece
            piece = ""
        else:
            piece += letter
    yield piece


def _value(text: str) -> Any:
    text = text.strip()
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    wrong = ValueError(f"{text!r} is no value: give numbers, words, or tuples such as (2,3)")
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        if not text or any(letter in text for letter in "()[]{}'\"="):
            raise wrong from None
        return text
    # Literals are also ..., 1j, b'' and sets.
    if not isinstance(value, (int, float, str, tuple, list, dict)):
        raise wrong
    return value


def as_text(value: Any) -> str:
    """A value as ``--vary`` takes it: a text that would be read as another value gets quotes."""
    if not isinstance(value, str):
        return str(value).replace(" ", "")
    try:
        return value if split_vary(f"key={value}")[1] == (value,) else repr(value)
    except ValueError:
        return repr(value)


class Options:
    """The options of a config by their names.

    Args:
        cfg: the config.
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg

    @cached_property
    def _full(self) -> dict[str, tuple[str, ...]]:
        """The paths of all options: those that the config sets, and those that the model's types have."""
        paths = [path for path in _paths(self._cfg._cfg_dict) if path[0] in _READ]
        paths += [path for found in self._short.values() for path in found]
        # A key may have dots itself, such as one of an optimiser's custom_keys.
        return {".".join(path): path for path in paths}

    @cached_property
    def _short(self) -> dict[tuple[str, str], list[tuple[str, ...]]]:
        """The paths of the model's options, by type and name: ``{("TAM", "group_size"): [...]}``."""
        found: dict[tuple[str, str], list[tuple[str, ...]]] = {}
        with MODELS.switch_scope_and_registry(self._cfg.get("default_scope")) as models:
            for path, node in _typed(self._cfg.model, ("model",)):
                for name in dict.fromkeys([*node, *_accepted(node["type"], models)]):
                    if name not in ("type", "_scope_") and not _is_part(node.get(name)):
                        found.setdefault((type_name(node), name), []).append((*path, name))
        return found

    def find(self, key: str, values: Iterable[Any] = ()) -> Option:
        """Find an option by its full path, by ``TYPE.NAME``, or by ``NAME`` if one type has it.

        Raises:
            UserError: there is no such option, it is the seed, training doesn't read it, or several types
                have it.
        """
        path = tuple(key.split("."))
        values = tuple(values)
        if path[0] == "randomness":
            raise UserError(f"--vary {key}: --seeds sets the seeds")
        if key in self._full:
            return Option(key, (self._full[key],), values)
        if path in self._short:
            return Option(key, tuple(self._short[path[0], path[1]]), values)
        kinds = [kind for kind, name in self._short if name == key]
        if len(kinds) > 1:
            named = ", ".join(f"{kind}.{key}" for kind in kinds)
            raise UserError(f"--vary {key}: several parts of the model have it, name one: {named}")
        if kinds:
            return Option(f"{kinds[0]}.{key}", tuple(self._short[kinds[0], key]), values)
        unread = path[0] in self._cfg and path[0] not in _READ
        fault = f"training doesn't read {path[0]}" if unread else f"{self._cfg.filename} has no such option"
        raise UserError(f"--vary {key}: {fault}{self._nearest(key)}")

    def _nearest(self, key: str) -> str:
        names = [*map(".".join, self._short), *self._full]
        # A wrong type's name must not hide the right option, nor a long path.
        ends = {name.rpartition(".")[2]: name for name in reversed(names)}
        near = difflib.get_close_matches(key, names, 3) or [
            ends[end] for end in difflib.get_close_matches(key.rpartition(".")[2], ends, 3)
        ]
        if near:
            return f"; the nearest: {', '.join(near)}"
        return f"; give TYPE.NAME, such as {names[0]}, or a path in the config"


def with_values(cfg: Config, chosen: Iterable[tuple[Option, Any]]) -> Config:
    """A copy of a config with each option set to a value."""
    cfg = copy.deepcopy(cfg)
    for option, value in chosen:
        for path in option.paths:
            node: Any = cfg._cfg_dict
            for part in path[:-1]:
                node = node[int(part)] if isinstance(node, (list, tuple)) else node[part]
            node[path[-1]] = copy.deepcopy(value)
    return cfg


def _items(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        yield from node.items()
    elif isinstance(node, (list, tuple)):
        yield from ((str(place), item) for place, item in enumerate(node))


def _is_part(value: Any) -> bool:
    """Whether a value has options of its own."""
    return isinstance(value, dict) or (isinstance(value, (list, tuple)) and any(map(_is_part, value)))


def _paths(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all options inside ``node``."""
    for key, value in _items(node):
        if _is_part(value):
            yield from _paths(value, (*path, key))
        elif isinstance(node, dict):
            yield (*path, key)


def _typed(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict]]:
    """The dicts inside ``node`` that have a type, with their paths."""
    if isinstance(node, dict) and "type" in node:
        yield path, node
    for key, value in _items(node):
        yield from _typed(value, (*path, key))


def _accepted(kind: Any, models: Registry) -> Iterator[str]:
    """The names of a type's options, as far as its signature says."""
    graft = find_graft(kind)
    if graft is not None:
        yield from _named(graft, "backbone")
        return
    found = models.get(kind) if isinstance(kind, str) else kind
    name = str(kind).removeprefix("attn_mm.")
    if name in CLASSES:
        found = getattr(import_module(CLASSES[name]), name)
    if not inspect.isclass(found):
        yield from _named(found, "options") if callable(found) else ()
        return
    if found in (*PLUGINS, *FOREIGN):
        yield from _named(put_layer, "backbone", "layer", "options")
    for cls in found.__mro__:
        if "__init__" in vars(cls):
            yield from _named(cls.__init__, "self", *FILLED_IN)
            kinds = [p.kind for p in inspect.signature(cls.__init__).parameters.values()]
            if inspect.Parameter.VAR_KEYWORD not in kinds:
                return


def _named(function: Any, *given: str) -> Iterator[str]:
    """The parameters of a function that a config can name."""
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in given and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            yield name
