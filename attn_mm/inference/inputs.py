"""What ``infer`` and ``explore`` share: the flags of prediction, and the output folder."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attn_mm.errors import UserError
from attn_mm.frameworks import get_framework, known_frameworks
from attn_mm.frameworks.framework import Framework, VideoFramework
from attn_mm.utils.config import ConfigOptions


def add_prediction_flags(parser: argparse.ArgumentParser) -> None:
    """Declare ``--cfg-options``, and the flags that belong to one framework each."""
    for framework in map(get_framework, known_frameworks()):
        framework.add_flags(parser)
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=ConfigOptions,
        metavar="KEY=VALUE",
        help="override values of the config, such as model.test_cfg.nms.iou_threshold=0.5",
    )


def framework_flags(args: argparse.Namespace) -> dict[str, Any]:
    """The frameworks' flags that the user set, by name, such as ``{"--classes": Path("names.txt")}``."""
    flags = [flag for name in known_frameworks() for flag in get_framework(name).flags]
    values = {flag: getattr(args, flag.removeprefix("--").replace("-", "_")) for flag in flags}
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
