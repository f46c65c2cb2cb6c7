"""The prediction flags and the request that ``infer`` and ``explore`` share, and their output folder."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from attn_mm.errors import UserError
from attn_mm.frameworks import framework_of, get_framework, known_frameworks
from attn_mm.frameworks.framework import Framework, ImageFramework, VideoFramework
from attn_mm.utils.config import load_config
from attn_mm.utils.files import check_checkpoint
from attn_mm.utils.flags import add_options_flag


@dataclass(frozen=True)
class Request:
    """A network and what it should predict on.

    Attributes:
        config, checkpoint: the network's.
        input: an image, a folder of images, or a video; for an action config a video or a folder of videos.
        device: where the network runs.
        out: the output folder. None: a folder in ``outputs/`` named after the input.
        score_thr: drop results below this score. None: the framework's default.
        cfg_options: overrides of the config, ``{"a.b": value}``.
        flags: the flags of single frameworks, as of :func:`framework_flags`.
    """

    config: str
    checkpoint: str
    input: Path
    device: str
    out: Path | None = None
    score_thr: float | None = None
    cfg_options: dict | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)


def open_request(request: Request, tool: str) -> tuple[Config, ImageFramework | VideoFramework]:
    """Read the config of a request.

    Args:
        request: the request.
        tool: name of the command, for the error message.

    Returns:
        the config and its framework.

    Raises:
        UserError: a file is missing, ``tool`` doesn't know the framework, or a flag is for another one.
    """
    cfg = load_config(request.config, request.cfg_options)
    check_checkpoint(request.checkpoint)
    framework = framework_of(cfg, tool)
    check_flags(framework, request.config, request.flags, request.score_thr)
    return cfg, framework


def add_prediction_flags(parser: argparse.ArgumentParser) -> None:
    """Declare ``--cfg-options``, and the flags that belong to one framework each."""
    for framework in map(get_framework, known_frameworks()):
        framework.add_flags(parser)
    add_options_flag(parser, "override values of the config, such as model.test_cfg.nms.iou_threshold=0.5")


def framework_flags(args: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of single frameworks that the user set, such as ``{"--classes": Path("names.txt")}``.

    Args:
        args: everything that the user set, such as ``{"classes": Path("names.txt"), "config": "x.py"}``.
    """
    flags = [flag for name in known_frameworks() for flag in get_framework(name).flags]
    values = {flag: args[flag.removeprefix("--").replace("-", "_")] for flag in flags}
    return {flag: value for flag, value in values.items() if value}


def check_flags(framework: Framework, config: str, flags: Mapping[str, Any], score_thr: float | None) -> None:
    """Check that the flags the user set are for this framework.

    Args:
        framework: the one of the config.
        config: the config's name, for the error message.
        flags: as of :func:`framework_flags`.
        score_thr: ``--score-thr``, or None.

    Raises:
        UserError: a flag is for another framework.
    """
    for other in map(get_framework, known_frameworks()):
        for flag in other.flags:
            if flag in flags and flag not in framework.flags:
                raise UserError(f"{flag} is for {other.task} configs, and {config} is for {framework.name}")
    if score_thr is not None and isinstance(framework, VideoFramework):
        raise UserError(
            f"--score-thr is not for {framework.task} configs such as {config}: the best classes are shown"
        )


def make_output(out: Path, source: Path, attention: bool) -> None:
    """Make the output folder.

    Args:
        out: the folder.
        source: the input, a file or a folder.
        attention: whether to make ``attention/`` in it too.

    Raises:
        UserError: pictures would replace the input, or the folder can't be made.
    """
    folders = [out, out / "attention"] if attention else [out]
    taken = (source if source.is_dir() else source.parent).resolve()
    for folder in folders:
        if folder.resolve() == taken:
            raise UserError(f"--out {out}: {folder} is the input's own folder; name another one")
    try:
        folders[-1].mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} can't be made ({error.strerror})") from error
