"""The scope ``attn_mm``: ``type='attn_mm.X'`` resolves from any framework's config, no import line."""

from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry("model", parent=MMENGINE_MODELS, scope="attn_mm", locations=["attn_mm.models"])
TRANSFORMS = Registry(
    "transform", parent=MMENGINE_TRANSFORMS, scope="attn_mm", locations=["attn_mm.datasets.transforms"]
)
GRAFTS = Registry("graft", scope="attn_mm", locations=["attn_mm.models.grafts"])
