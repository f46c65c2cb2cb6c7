"""What ``tools/train.py`` and ``tools/test.py`` share: their common flags and the way to a runner."""

from __future__ import annotations

import argparse
import os
import os.path as osp

import torch
from mmengine.config import Config
from mmengine.dist import init_dist, is_distributed
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing

from attn_mm.errors import UserError
from attn_mm.frameworks.demo import to_demo
from attn_mm.run.cpu import keep_freed_memory, prefer_channels_last
from attn_mm.utils.config import ConfigOptions, load_config, merge_options, set_data_root


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """What changes a config: the usual OpenMMLab flags and ``--demo``, ``--data-root``."""
    parser.add_argument("--work-dir", metavar="DIR", help="logs, checkpoints and pictures go here")
    parser.add_argument(
        "--demo",
        action="store_true",
        help="a generated data set, small images and a short schedule: runs anywhere, needs no download",
    )
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data set (default: the config's)")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=ConfigOptions,
        metavar="KEY=VALUE",
        help='change the config, such as train_dataloader.batch_size=4 or key="[(a,b),(c,d)]"',
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


def open_config(args: argparse.Namespace) -> Config:
    """The config that ``args`` names, with the common flags applied."""
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    if args.demo and args.data_root:
        raise UserError("--demo brings its own data set: leave --data-root out")
    cfg = load_config(args.config)
    cfg.launcher = args.launcher
    if args.demo:
        to_demo(cfg)
    if args.data_root:
        if not osp.isdir(args.data_root):
            raise UserError(f"--data-root {args.data_root} is not a folder")
        set_data_root(cfg, args.data_root)
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif not cfg.get("work_dir"):
        name = osp.splitext(osp.basename(args.config))[0] + ("_demo" if args.demo else "")
        cfg.work_dir = osp.join("work_dirs", name)
    merge_options(cfg, args.cfg_options or {})
    return cfg


def build_runner(cfg: Config) -> Runner:
    """The config's runner, on the processes and the device that there are."""
    on_cpu = not torch.cuda.is_available()
    if on_cpu and cfg.launcher == "pytorch":
        join_processes(cfg)
        # mmengine's default wrapper names a CUDA device.
        wrapper = dict(type="MMDistributedDataParallel", broadcast_buffers=False, device_ids=None)
        cfg.setdefault("model_wrapper_cfg", wrapper)
    runner = RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)
    if on_cpu:
        keep_freed_memory()
        prefer_channels_last(runner.model)
    return runner


def join_processes(cfg: Config) -> None:
    """Let the processes of the config's launcher know each other, once, however many runners they build."""
    if cfg.launcher == "none" or is_distributed():
        return
    if cfg.launcher == "pytorch" and not torch.cuda.is_available():
        # mmengine's launcher sets a CUDA device.
        torch.distributed.init_process_group("gloo")
    else:
        env = cfg.get("env_cfg", {})
        # As mmengine's runner does, which would find the start method changed by init_dist.
        set_multi_processing(**env.get("mp_cfg", {}), distributed=True)
        init_dist(cfg.launcher, **env.get("dist_cfg", {}))
