"""Build a config's model and load a checkpoint into it."""

from __future__ import annotations

import torch
from mmengine.config import Config
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from attn_mm.errors import CheckpointError, UserError
from attn_mm.frameworks import framework_of
from attn_mm.utils.config import reason
from attn_mm.utils.weights import without_wrapper, wrong_weight


def load_model(cfg: Config, checkpoint: str, device: str) -> BaseModel:
    """Build a config's model for inference and load a checkpoint into it.

    The model gets a ``dataset_meta`` (classes and palette, or the names and links of keypoints) from the
    checkpoint, or else from the config's test set.

    Args:
        cfg: the config.
        checkpoint: path or URL of the checkpoint.
        device: such as ``"cpu"`` or ``"cuda:0"``.

    Returns:
        the model, in evaluation mode.

    Raises:
        UserError: the model can't be built, the checkpoint does not fit it, or there is no such device.
        CheckpointError: the file can't be loaded.
    """
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        content = CheckpointLoader.load_checkpoint(checkpoint, map_location="cpu", logger="silent")
        # mmpretrain's configs have it beside the model, where mmengine's runner takes it from.
        preprocessor = {"data_preprocessor": cfg.data_preprocessor} if "data_preprocessor" in cfg else {}
        model = revert_sync_batchnorm(_build(cfg, preprocessor))
        fill(model, content.get("state_dict", content), f"{checkpoint} does not fit {cfg.filename}")
        model.dataset_meta = framework_of(cfg).dataset_meta(cfg, _saved_meta(content))
    try:
        if torch.device(device).type == "meta":
            raise RuntimeError("it computes nothing")
        model.to(device)
    except (AssertionError, ModuleNotFoundError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from error
    return model.eval()


def _build(cfg: Config, defaults: dict) -> BaseModel:
    """Build a config's model, with ``defaults`` where the model has none of its own.

    Raises:
        UserError: it can't be built.
    """
    if not isinstance(cfg.get("model"), dict):
        raise UserError(f"{cfg.filename} has no model")
    try:
        return MODELS.build({**defaults, **cfg.model})
    except (UserError, CheckpointError):
        raise
    except Exception as error:
        # A constructor raises whatever it likes where the config's options don't fit it.
        raise UserError(f"the model of {cfg.filename} can't be built: {reason(error)}") from error


def fill(model: BaseModel, weights: dict, complaint: str) -> None:
    """Load weights into a model.

    Args:
        model: the model.
        weights: a checkpoint's ``state_dict``.
        complaint: how the error message begins.

    Raises:
        UserError: the weights don't fit the model, or make no sense.
    """
    weights = without_wrapper(weights)
    check_weights(model, weights, complaint)
    advice = "use the config that its training left beside it"
    try:
        report = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        # A heading, then a line for each weight.
        reason = str(error).splitlines()[1].strip(" \t.")
        raise UserError(f"{complaint}: {reason}; {advice}") from error
    parameters = {name for name, _ in model.named_parameters()}
    own = model.state_dict()
    # Without a norm's statistics the outputs are others, too.
    missing = [n for n in report.missing_keys if n in parameters or _predicts(n, own.get(n))]
    if missing:
        lacking = [name for name in missing if name in parameters]
        what = f"{len(lacking)} of the model's {len(parameters)} parameters" if lacking else "buffers"
        raise UserError(f"{complaint}: it lacks {what}, such as {(lacking or missing)[0]}; {advice}")
    # Weights that the model's own loading renames or drops are not foreign.
    foreign = [name for name in report.unexpected_keys if _predicts(name, weights.get(name))]
    if foreign:
        raise UserError(
            f"{complaint}: the model lacks {len(foreign)} of its {len(weights)} weights, "
            f"such as {foreign[0]}; {advice}"
        )


def check_weights(model: BaseModel, weights: dict, complaint: str) -> None:
    """Raise UserError if a weight has another kind of numbers than the model's, or makes no sense.

    Args:
        model: the model that the weights are for.
        weights: a checkpoint's ``state_dict``.
        complaint: how the error message begins.
    """
    wrong = wrong_weight(model, weights)
    if wrong:
        raise UserError(
            f"{complaint}: {wrong}: the training diverged or the file is damaged; use an earlier checkpoint"
        )


def _predicts(name: str, value: Tensor | None) -> bool:
    """Whether a checkpoint's entry affects predictions: it is no counter and no part of a loss.

    Args:
        name: of the entry.
        value: its tensor, or None if loading renamed it.
    """
    *modules, own = name.split(".")
    if own == "num_batches_tracked" or (isinstance(value, Tensor) and not value.is_floating_point()):
        return False
    return not any(module.startswith(("data_preprocessor", "loss", "metric")) for module in modules)


def _saved_meta(checkpoint: dict) -> dict:
    """The ``dataset_meta`` that a checkpoint holds, or an empty dict."""
    saved = checkpoint.get("meta")
    if not isinstance(saved, dict):
        return {}
    # 'CLASSES' is how the versions before mmengine spelt it.
    about = saved.get("dataset_meta", saved)
    return {str(key).lower(): value for key, value in about.items()} if isinstance(about, dict) else {}
