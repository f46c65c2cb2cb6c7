"""GoogLeNet and Inception v3: stages of modules whose branches are concatenated.

Szegedy et al., https://arxiv.org/abs/1409.4842 and https://arxiv.org/abs/1512.00567.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from attn_mm.graft.families.family import Split, Stage, together
from attn_mm.graft.families.sequences import chain_classifier

_GOOGLENET = (
    "conv1 maxpool1 conv2 conv3 maxpool2 inception3a inception3b maxpool3 inception4a inception4b "
    "inception4c inception4d inception4e maxpool4 inception5a inception5b"
)
_INCEPTION_V3 = (
    "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1 Conv2d_3b_1x1 Conv2d_4a_3x3 maxpool2 Mixed_5b "
    "Mixed_5c Mixed_5d Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e Mixed_7a Mixed_7b Mixed_7c"
)


def _layers(names: str, net: Any) -> list[nn.Module]:
    if net.aux_logits:
        raise ValueError("aux_logits=True gives logits of maps inside the stages: set it to False")
    return [getattr(net, name) for name in names.split()]


def _transformed(split: Split, net: Any) -> list[Stage]:
    """The stages of a network of torchvision, which may scale its images first."""
    first, *others = split.stages(net)
    return [together([net._transform_input], [first]), *others]


def _scores(net: Any, x: Tensor) -> Tensor:
    return net.fc(net.dropout(net.avgpool(x)).flatten(1))


def _no_aux_and_scores(net: Any, x: Tensor) -> Any:
    return None, _scores(net, x)


def _of_torchvision(names: str) -> Split:
    split = chain_classifier(partial(_layers, names), _scores)
    return split._replace(stages=partial(_transformed, split))


SPLITS: dict[str, Split] = {
    "mmpretrain.models.backbones.inception_v3.InceptionV3": chain_classifier(
        partial(_layers, _INCEPTION_V3), _no_aux_and_scores
    ),
    "torchvision.models.googlenet.GoogLeNet": _of_torchvision(_GOOGLENET),
    "torchvision.models.inception.Inception3": _of_torchvision(_INCEPTION_V3),
}
