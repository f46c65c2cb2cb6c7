"""The grafts that configs can name: functions that add attention to a built backbone, one file each."""

from attn_mm.models.grafts import aw_conv, cuda_graph, flow_pyramid, layer, multi_scale, td, tdaf, whole_td
from attn_mm.models.grafts.turns import GRAFTS

__all__ = [
    "GRAFTS",
    "aw_conv",
    "cuda_graph",
    "flow_pyramid",
    "layer",
    "multi_scale",
    "td",
    "tdaf",
    "whole_td",
]
