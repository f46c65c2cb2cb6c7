"""The flags with which commands change a config, and the dataclass that holds them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from attn_mm.utils.flags import add_options_flag


@dataclass(frozen=True)
class RunOptions:
    """A command line's changes to a config, see :func:`add_config_flags` and :func:`add_common_flags`.

    Attributes:
        work_dir: folder for logs, checkpoints and pictures. None: the config's, or one in ``work_dirs/``.
        demo: use generated data and a short schedule.
        data_root: folder of the data set. None: the config's.
        cfg_options: overrides, ``{"a.b": value}``; they are merged last.
        launcher: job launcher of a multi-process run, or ``"none"``.
        local_rank: index of this process on its machine, from 0.
        verbose: show mmengine's whole log on the screen.
    """

    work_dir: str | None = None
    demo: bool = False
    data_root: str | None = None
    cfg_options: dict | None = None
    launcher: str = "none"
    local_rank: int = 0
    verbose: bool = False


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that change a config: OpenMMLab's usual ones, ``--demo`` and ``--data-root``."""
    parser.add_argument("--work-dir", metavar="DIR", help="folder for logs, checkpoints and pictures")
    parser.add_argument(
        "--demo",
        action="store_true",
        help="use generated data, small images and a short schedule; runs anywhere without a download",
    )
    parser.add_argument(
        "--data-root", metavar="DIR", help="folder of the data set (default: from the config)"
    )
    add_options_flag(
        parser, 'override config values, such as train_dataloader.batch_size=4 or key="[(a,b),(c,d)]"'
    )


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of :func:`add_config_flags` and those of a multi-process run."""
    add_config_flags(parser)
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="how the processes of a distributed run are started (default: %(default)s)",
    )
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="show the whole log on the screen, as the log file has it: environment, config, hooks, losses",
    )
    # torch.distributed.launch passes --local-rank; torchrun sets the variable alone.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
