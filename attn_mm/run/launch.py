"""Open a config with the changes from the command line, and build its runner."""

from __future__ import annotations

import os
import os.path as osp
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_rank, init_dist, is_distributed
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing

from attn_mm.datasets.checks.runner import checked
from attn_mm.errors import CheckpointError, UserError
from attn_mm.frameworks import framework_of
from attn_mm.frameworks.demo import to_demo
from attn_mm.run.cpu import keep_freed_memory, multiply_tiny_maps, prefer_channels_last
from attn_mm.run.options import RunOptions
from attn_mm.run.runner import ResumableRunner
from attn_mm.run.screen.watch import Screen
from attn_mm.utils.config import load_config, merge_options, reason, set_data_root

T = TypeVar("T")


def open_config(path: str, options: RunOptions) -> Config:
    """Read the config at ``path`` and apply the ``options``.

    Raises:
        UserError: the config can't be read, or an option doesn't match it.
    """
    os.environ.setdefault("LOCAL_RANK", str(options.local_rank))
    if options.demo and options.data_root:
        raise UserError("--demo generates its own data set: remove --data-root")
    cfg = load_config(path)
    cfg.launcher = options.launcher
    if options.demo:
        if why := framework_of(cfg, "--demo").why_no_demo(cfg):
            raise UserError(f"--demo: {path} {why}")
        to_demo(cfg)
    if options.data_root:
        if not osp.isdir(options.data_root):
            raise UserError(f"--data-root {options.data_root} is not a folder")
        set_data_root(cfg, options.data_root)
    if options.work_dir:
        cfg.work_dir = options.work_dir
    elif not cfg.get("work_dir"):
        name = osp.splitext(osp.basename(path))[0] + ("_demo" if options.demo else "")
        cfg.work_dir = osp.join("work_dirs", name)
    merge_options(cfg, options.cfg_options or {})
    if not isinstance(cfg.work_dir, str):
        raise UserError(f"work_dir is {cfg.work_dir!r}: give a path")
    return cfg


def build_runner(cfg: Config, screen: Screen | None = None) -> Runner:
    """Build the config's runner for the available device and the launched processes; it checks its data.

    Args:
        cfg: the config.
        screen: shows the run, see :func:`~attn_mm.run.screen.watch.watching`. None: mmengine's log does.
    """
    on_cpu = not torch.cuda.is_available()
    if on_cpu and cfg.launcher == "pytorch":
        join_processes(cfg)
        # mmengine's default wrapper names a CUDA device.
        wrapper = dict(type="MMDistributedDataParallel", broadcast_buffers=False, device_ids=None)
        cfg.setdefault("model_wrapper_cfg", wrapper)
    kind = RUNNERS.get(cfg.runner_type) if "runner_type" in cfg else Runner
    if kind is None:
        raise UserError(f"{cfg.filename}: there is no runner_type {cfg.runner_type!r}")
    kind = checked(ResumableRunner if kind is Runner else kind)
    runner = (screen.quiet(kind) if screen else kind).from_cfg(cfg)
    if screen:
        runner.register_hook(screen)
    if on_cpu:
        keep_freed_memory()
        prefer_channels_last(runner.model)
        multiply_tiny_maps(runner.model)
    return runner


def join_processes(cfg: Config) -> None:
    """Initialise distributed training for the config's launcher, once per process.

    Raises:
        UserError: the launcher is unknown, or didn't start this process.
    """
    try:
        _join(cfg)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"--launcher {cfg.launcher}: {reason(error)}; start it by torchrun -m attn_mm train, or "
            "srun attn-mm train"
        ) from error


def _join(cfg: Config) -> None:
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


def in_first_process(decide: Callable[[], T]) -> T:
    """Call a function in the first process of the run only; every process gets its result, or its error.

    Raises:
        UserError, CheckpointError: the function raised it.
    """
    outcome: list[Any] = [None]
    if get_rank() == 0:
        try:
            outcome = [decide()]
        except (UserError, CheckpointError) as error:
            outcome = [error]
    broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]
