"""Weakly supervised data augmentation (WS-DAN): crops and erases images guided by their attention maps.

Hu et al., See Better Before Looking Closer, 2019 (https://arxiv.org/abs/1901.09891).
"""

from __future__ import annotations

import math

import torch
from mmpretrain.models import ImageClassifier
from torch import Tensor

from attn_mm.errors import ConfigError
from attn_mm.layers.attention_regions import crop_and_enlarge, crop_boxes, drop_masks


class WSDAN(ImageClassifier):
    """mmpretrain's classifier with an ``attn_mm.WSDANHead``, over any backbone.

    In training the network also sees each image cropped and erased by one of its attention maps, chosen at
    random, see :mod:`attn_mm.layers.attention_regions`. The classification loss is the mean over the three
    versions; the centre loss of the whole images is added. A prediction averages the class probabilities of
    the image and of a crop of the object, where the mean of the attention maps is high.

    Args:
        backbone, head, neck, pretrained, train_cfg, data_preprocessor, init_cfg: as in ``ImageClassifier``.
        crop_threshold: theta_c in training; 0.5 in the paper.
        drop_threshold: theta_d; 0.5 in the paper.
        object_threshold: theta_c for the object crop; 0.1 in the authors' code, not given in the paper.

    Raises:
        ConfigError: the head is not an ``attn_mm.WSDANHead``, a threshold is not in [0, 1), or
            ``train_cfg`` has batch augmentations.
    """

    def __init__(
        self,
        *args,
        crop_threshold: float = 0.5,
        drop_threshold: float = 0.5,
        object_threshold: float = 0.1,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not hasattr(self.head, "centre_loss"):
            raise ConfigError(
                f"WSDAN requires a head of type attn_mm.WSDANHead, got {type(self.head).__name__}"
            )
        if getattr(self.data_preprocessor, "batch_augments", None) is not None:
            raise ConfigError("WSDAN can't be combined with batch augmentations: remove train_cfg")
        thresholds = dict(crop=crop_threshold, drop=drop_threshold, object=object_threshold)
        for name, value in thresholds.items():
            if not 0 <= value < 1:
                raise ConfigError(f"{name}_threshold must be in [0, 1), got {value}")
        self.thresholds = thresholds

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Compute both losses for images ``(N, 3, H, W)`` and their data samples."""
        labels = torch.cat([sample.gt_label for sample in data_samples])
        maps, features = self.head.attend(self.extract_feat(inputs))
        with torch.no_grad():
            augmented = self.augment(inputs, maps)
        both = self.head.pre_logits(self.extract_feat(augmented))
        scores = self.head.classify(torch.cat([features, both]))
        loss = self.head.loss_module(scores, labels.repeat(3), avg_factor=len(scores))
        return dict(loss_cls=loss, loss_centre=self.head.centre_loss(features, labels))

    def augment(self, inputs: Tensor, maps: Tensor) -> Tensor:
        """Crop and erase images ``(N, 3, H, W)`` by their attention maps ``(N, M, h, w)``.

        Erased pixels become 0, the mean pixel of normalised images.

        Returns:
            The cropped images, then the erased ones, ``(2N, 3, H, W)``.
        """
        height, width = inputs.shape[2:]
        every = torch.arange(len(maps), device=maps.device)
        chosen = maps[every, torch.randint(maps.shape[1], every.shape, device=maps.device)]
        cropped = crop_and_enlarge(inputs, crop_boxes(chosen, (height, width), self.thresholds["crop"]))
        return torch.cat([cropped, inputs * drop_masks(chosen, (height, width), self.thresholds["drop"])])

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Predict, for images ``(N, 3, H, W)``, data samples with mean probabilities of image and crop."""
        maps, features = self.head.attend(self.extract_feat(inputs))
        height, width = inputs.shape[2:]
        boxes = crop_boxes(maps.mean(1), (height, width), self.thresholds["object"])
        closer = self.head.pre_logits(self.extract_feat(crop_and_enlarge(inputs, boxes)))
        logs = [self.head.classify(look).log_softmax(1) for look in (features, closer)]
        return self.head._get_predictions(torch.logaddexp(*logs) - math.log(2), data_samples)
