"""The score that Grad-CAM explains for an mmsegmentation model: that of the pixels of a class.

Vinogradova et al., "Towards Interpretable Semantic Segmentation via Gradient-weighted Class Activation
Mapping", AAAI 2020 (https://arxiv.org/abs/2002.11434), equation 2, with the mean instead of the sum.
"""

from __future__ import annotations

from mmengine.model import BaseModel
from torch import Tensor

from attn_mm.errors import UserError
from attn_mm.frameworks.mmseg.logits import pixel_logits
from attn_mm.frameworks.prediction import Target


def pixels_target(model: BaseModel, inputs: Tensor, label: int) -> Target:
    """The mean logit of a class over the pixels that the model gives it.

    Args:
        model: an mmsegmentation model.
        inputs: ``(N, C, h, w)``.
        label: index of the class. Of a binary segmentor's single output, 0 is the background.

    Raises:
        UserError: when run, if the model has no such class, or gives it no pixel.
    """

    def run() -> Tensor:
        logits = pixel_logits(model, inputs)
        if logits.shape[1] == 1:
            threshold = getattr(model.decode_head, "threshold", 0.5)
            found = (logits.detach().sigmoid() > threshold).long()[:, 0]
            logits = logits.mul(logits.new_tensor([-1.0, 1.0])[:, None, None])
        else:
            found = logits.detach().argmax(1)
        if not 0 <= label < logits.shape[1]:
            raise UserError(f"there is no class {label}: the model knows 0 to {logits.shape[1] - 1}")
        pixels = logits[:, label][found == label]
        if not len(pixels):
            raise UserError(f"no pixel is of class {label} in this image")
        return pixels.mean()

    return run
