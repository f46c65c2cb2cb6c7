"""What command lines change of a config: the flags, and the dataclass that they become."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from attn_mm.utils.flags import add_options_flag


@dataclass(frozen=True)
class RunOptions:
    """What a command line changes of a config, see :func:`add_config_flags` and :func:`add_common_flags`.

    Attributes:
        work_dir: folder of logs, checkpoints and pictures. None: the config's, or one in ``work_dirs/``.
        demo: replace the data by generated ones, and shorten the schedule.
        data_root: folder of the data set. None: the config's.
        cfg_options: overrides, ``{"a.b": value}``; they are merged last.
        launcher: job launcher of a multi-process run, or ``"none"``.
        local_rank: this process's place on its machine.
    """

    work_dir: str | None = None
    demo: bool = False
    data_root: str | None = None
    cfg_options: dict | None = None
    launcher: str = "none"
    local_rank: int = 0


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """What changes a config: the usual OpenMMLab flags and ``--demo``, ``--data-root``."""
    parser.add_argument("--work-dir", metavar="DIR", help="logs, checkpoints and pictures go here")
    parser.add_argument(
        "--demo",
        action="store_true",
        help="a generated data set, small images and a short schedule: runs anywhere, needs no download",
    )
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data set (default: the config's)")
    add_options_flag(
        parser, 'change the config, such as train_dataloader.batch_size=4 or key="[(a,b),(c,d)]"'
    )


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of :func:`add_config_flags`, and those of a multi-process run."""
    add_config_flags(parser)
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="job launcher of a multi-process run",
    )
    # torch.distributed.launch passes --local-rank; torchrun sets the variable alone.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
