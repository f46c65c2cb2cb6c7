"""What can be grafted onto a built backbone, by the name that a config gives."""

from attn_mm.models.grafts import aw_conv, cuda_graph, flow_pyramid, layer, multi_scale, td, tdaf

__all__ = ["aw_conv", "cuda_graph", "flow_pyramid", "layer", "multi_scale", "td", "tdaf"]
