"""Load a config of any framework and apply the command line's changes to it."""

from __future__ import annotations

import os.path as osp
import re
from argparse import ArgumentError
from collections.abc import Iterator

from mmengine.config import Config, ConfigDict, DictAction

from attn_mm.errors import UserError
from attn_mm.utils.config_names import new_name, shipped_config

_DICT = re.compile(r"(^|[\[(,])\s*(dict\(|{\s*['\"\w]+\s*:)")
"""A dict as or inside an option's value, which mmengine would take as a text."""


class ConfigOptions(DictAction):
    """Parse ``--cfg-options KEY=VALUE ...`` into a dict; anything else is a command line error."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for option in values:
            key, separator, value = option.partition("=")
            if not (separator and all(key.split("."))):
                raise ArgumentError(self, f"expected KEY=VALUE, got {option!r}")
            if _DICT.search(value):
                raise ArgumentError(self, f"{option!r}: set a dict's entries one by one, {key}.NAME=VALUE")
        try:
            super().__call__(parser, namespace, values, option_string)
        # mmengine's parser looks for the end of a bracket for ever, or beyond the text.
        except (AssertionError, IndexError, RecursionError, ValueError) as error:
            what = "values are numbers, texts, lists and tuples, such as 'key=[(1,2),(3,4)]'"
            raise ArgumentError(self, f"expected KEY=VALUE, got {' '.join(values)!r}: {what}") from error


def reason(error: BaseException) -> str:
    """Why something that a config describes can't be built or run, in one short line.

    Args:
        error: what mmengine, a framework or a constructor raised.
    """
    if isinstance(error, UserError):
        return str(error)
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    unknown = re.search(r"(\S+) is not in the (.+?) registry", text)
    if unknown:
        return f"there is no {unknown[2].rpartition('::')[2]} of the type {unknown[1]}"
    option = re.search(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'", text)
    if option:
        # An inherited dict keeps the options of the type that it had.
        return f"{option[1]} has no {option[2]!r}; if a base config sets that, add _delete_=True to the dict"
    # mmengine names the class that it was building, and the class that was building that.
    return f"{type(error).__name__}: {re.sub(r'(class `[^`]*` in [^ :]*: )+', '', text)}"[:130].rstrip(" .:")


def load_config(path: str, options: dict | None = None) -> Config:
    """Load the config at ``path``, or the packaged one of that name, and merge ``options`` into it.

    A framework's own config is named as in ``_base_``: ``mmdet::yolo/...py``.

    Raises:
        UserError: the file doesn't exist, or it or one of its bases can't be read.
    """
    if "::" not in path and not osp.isfile(path):
        path = shipped_config(path)
    try:
        cfg = Config.fromfile(Config._get_cfg_path(path, "")[0] if "::" in path else path)
    # A config is a program: whatever it raises is a fault in that file, and so is its end.
    except (Exception, SystemExit) as error:
        base = new_name(str(error.filename)) if isinstance(error, FileNotFoundError) else None
        hint = f"; it is now {base}" if base else ""
        raise UserError(f"config {path} can't be read: {reason(error)}{hint}") from error
    merge_options(cfg, options or {})
    return cfg


def merge_options(cfg: Config, options: dict) -> None:
    """Merge ``--cfg-options`` into ``cfg``; UserError if one doesn't match its structure."""
    try:
        for key, value in options.items():
            _check_kind(cfg, key, value)
        cfg.merge_from_dict(options)
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"--cfg-options don't fit {cfg.filename}: {error}") from error


def _check_kind(cfg: Config, key: str, value: object) -> None:
    """UserError if a number or text would replace a dict, or a list of dicts."""
    node: object = cfg._cfg_dict
    for part in key.split("."):
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return
    if value is None or isinstance(value, (dict, list, tuple)):
        return
    if isinstance(node, dict):
        raise UserError(
            f"--cfg-options {key}={value}: {key} is a dict; set an entry of it, {key}.NAME={value}"
        )
    if isinstance(node, list) and node and isinstance(node[0], dict):
        raise UserError(
            f"--cfg-options {key}={value}: {key} is a list of dicts; set an entry of one, {key}.0.NAME"
        )


def walk(node) -> Iterator[ConfigDict]:
    """Yield every dict inside ``node``, depth first, including ``node`` itself."""
    if isinstance(node, dict):
        yield node
        node = node.values()
    if not isinstance(node, (str, bytes)):
        try:
            children = iter(node)
        except TypeError:
            return
        for child in children:
            yield from walk(child)


def type_name(node: dict) -> str:
    """The ``type`` of a config's dict, a name or a class, without its scope; empty if it has none."""
    kind = node.get("type", "")
    return getattr(kind, "__name__", str(kind)).rpartition(".")[2]


def model_part(cfg: Config, name: str) -> ConfigDict:
    """The config of the model's part ``name``, such as its head, without ``attn_mm.AttnHead`` around it.

    It is empty where the model has no such part.
    """
    part = cfg.model.get(name)
    if not isinstance(part, dict):
        return ConfigDict()
    inner = {"attn_mm.AttnHead": "head", "attn_mm.AttnNeck": "neck"}.get(str(part.get("type")))
    return part if inner is None or not isinstance(part.get(inner), dict) else part[inner]


def datasets(cfg: Config, splits=("train", "val", "test")) -> Iterator[ConfigDict]:
    """The dataset configs of the named splits that read files, without their wrappers."""
    for split in splits:
        for node in walk(cfg.get(f"{split}_dataloader") or {}):
            if "ann_file" in node or "data_root" in node:
                yield node


def evaluators(cfg: Config, splits=("val", "test")) -> Iterator[ConfigDict]:
    """The evaluator configs of the named splits that read an annotation file."""
    for split in splits:
        for node in walk(cfg.get(f"{split}_evaluator") or {}):
            if node.get("ann_file"):
                yield node


def set_data_root(cfg: Config, root: str) -> None:
    """Make every data set, detection file and evaluator annotation come from ``root``.

    The layout below ``root`` stays as in the config.

    Raises:
        UserError: no data set of the config has a ``data_root`` to replace.
    """
    old_roots = {osp.join(node.data_root, "") for node in datasets(cfg) if node.get("data_root")}
    if not old_roots:
        raise UserError(
            f"--data-root: {cfg.filename} sets no data_root to replace; set its paths with --cfg-options"
        )

    def move(node: ConfigDict, key: str) -> None:
        for old in old_roots:
            if (node.get(key) or "").startswith(old):
                node[key] = osp.join(root, osp.relpath(node[key], old))
                return

    for node in datasets(cfg):
        node.data_root = root
        # Unlike ann_file, mmpose does not look for it below data_root.
        move(node, "bbox_file")
    for node in evaluators(cfg):
        move(node, "ann_file")


def drop_pretrained(cfg: Config) -> None:
    """Train from scratch: remove pretrained weights, and unfreeze the layers that they would have filled."""
    for node in walk(cfg.model):
        init = node.get("init_cfg")
        if isinstance(init, dict) and init.get("type") == "Pretrained":
            node.init_cfg = None
        for key in ("pretrained", "pretrained2d"):
            if node.get(key):
                node[key] = None if key == "pretrained" else False
        if "frozen_stages" in node:
            node.frozen_stages = -1
        if "norm_eval" in node:
            node.norm_eval = False
        norm = node.get("norm_cfg")
        if isinstance(norm, dict) and norm.get("requires_grad") is False:
            norm["requires_grad"] = True
    cfg.load_from = None
