"""Find the checkpoint that a run continues from."""

from __future__ import annotations

import os
import os.path as osp
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader

from attn_mm.errors import CheckpointError, UserError
from attn_mm.run.launch import in_first_process
from attn_mm.run.saved_state import check_saved_state
from attn_mm.utils.files import check_regular


def resume_from(cfg: Config, checkpoint: str | None = None) -> None:
    """Let a config's run continue from a checkpoint, with its seed; print what is chosen if it isn't obvious.

    Args:
        cfg: the config. Its ``resume``, ``load_from`` and ``randomness`` are set.
        checkpoint: the file. None: the newest in the work dir that can be continued from; where there is
            none at all, the run starts anew.

    Raises:
        UserError: the checkpoint can't be continued from, or none of the work dir's can.
        CheckpointError: the file can't be read.
    """

    def choose() -> tuple[str, int | None] | None:
        return (checkpoint, _seed(checkpoint)) if checkpoint else _newest(cfg)

    found = in_first_process(choose)
    cfg.resume = found is not None
    if found is None:
        return
    cfg.load_from, seed = found
    randomness = cfg.get("randomness") or {}
    if seed is not None and randomness.get("seed") is None:
        # The order of the data follows from it, and the data loader is built before the checkpoint is loaded.
        cfg.randomness = dict(randomness, seed=seed)


def last_checkpoint(work_dir: str | Path) -> str:
    """The path in ``last_checkpoint``, "" without one; mmengine reads it in the encoding of the locale."""
    try:
        return os.fsdecode(Path(work_dir, "last_checkpoint").read_bytes()).strip()
    except FileNotFoundError:
        return ""


def _seed(path: str) -> int | None:
    """The seed of the run that saved a checkpoint; an error if a run can't continue from it."""
    content = CheckpointLoader.load_checkpoint(path, map_location="cpu", logger="silent")
    check_saved_state(content, path)
    return content["meta"].get("seed")


def _newest(cfg: Config) -> tuple[str, int | None] | None:
    named, problem = _named(cfg)
    reasons = [problem] if problem else []
    paths = [named] if named else []
    paths += [path for path in _by_age(cfg) if named is None or osp.realpath(path) != osp.realpath(named)]
    for path in paths:
        try:
            seed = _seed(path)
        except (CheckpointError, UserError) as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            print(f"resume: {reason}")
        if reasons:
            print(f"resume: continuing from {path}")
        return path, seed
    if paths:
        raise UserError(f"no checkpoint in {cfg.work_dir} can be resumed: {reasons[-len(paths)]}")
    print(f"resume: {cfg.work_dir} has no checkpoint, so the run starts anew")
    return None


def _named(cfg: Config) -> tuple[str | None, str | None]:
    """The checkpoint that ``last_checkpoint`` names, or what is wrong with that file."""
    path = Path(cfg.work_dir, "last_checkpoint")
    try:
        check_regular(path)
        name = path.read_bytes().decode(errors="surrogateescape").strip()
    except UserError as error:
        return None, str(error)
    except OSError:
        return None, f"{path} is missing" if any(_by_age(cfg)) else None
    if "://" in name:
        return name, None
    # It may have been written from another folder.
    beside = osp.join(cfg.work_dir, osp.basename(name))
    for place in (name, beside):
        if name and "\0" not in name and osp.isfile(place):
            return place, None
    return None, f"{path} names no checkpoint"


def _by_age(cfg: Config) -> Iterator[str]:
    """The checkpoints of the run, the newest first; the best ones lack what a continuation needs."""
    folders = [Path(cfg.work_dir)]
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    out_dir = hook.get("out_dir")
    if out_dir and "://" not in str(out_dir):
        folders.append(Path(out_dir, osp.basename(osp.normpath(cfg.work_dir))))
    found = [path for folder in folders for path in folder.glob("*.pth") if path.is_file()]
    found = [path for path in found if not path.name.startswith("best_")]
    yield from map(str, sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True))
