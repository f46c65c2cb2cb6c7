"""What grafts have done to a network: one typed record on it, ``net.attn_mm``.

The record is plain data. It adds no key to the state dict, and goes along with ``deepcopy`` and ``pickle``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from attn_mm.graft.graph_cache import Graphs


@dataclass
class Flows:
    """How a network runs in flows.

    Attributes:
        graft: the graft that made it so: ``"TDAF"``, ``"FlowPyramid"`` or ``"MultiScale"``.
        number: N, the number of flows.
        upstream_forward: key of :data:`attn_mm.graft.families.SPLITS` for a backbone that was split into
            stages; otherwise empty.
        eta: shortcut of TDAF's eq. 5; None without attention between the flows.
        first_mask: see :class:`attn_mm.layers.R2DNS`.
        streams: whether the flows of a stage run side by side on CUDA streams.
        ends: for each stage, the name that the backbone's ``out_indices`` has for its output.
    """

    graft: str
    number: int
    upstream_forward: str = ""
    eta: float | None = None
    first_mask: Literal["none", "ones"] = "none"
    streams: bool = False
    ends: tuple[int, ...] = ()


@dataclass
class Grafted:
    """What grafts have done to a network.

    Attributes:
        modules: names of the modules that grafts have added.
        flows: how the network runs in flows; None where it does not.
        graphs: its CUDA graphs; None without the graft CUDAGraph.
        inflated_from: checkpoint of a 2D network from which ``init_weights`` fills this 3D network.
        in_channels: channels of the maps that a neck takes, if its own attributes don't tell them.
    """

    modules: list[str] = field(default_factory=list)
    flows: Flows | None = None
    graphs: Graphs | None = None
    inflated_from: str | None = None
    in_channels: int | Sequence[int] | None = None


class RunsStagesInFlows(nn.Module):
    """Base of networks whose stages run in flows."""

    attn_mm: Grafted

    @property
    def flows(self) -> Flows:
        """How the flows run."""
        assert self.attn_mm.flows is not None
        return self.attn_mm.flows

    @abstractmethod
    def flow_stages(self) -> list[Callable[[Tensor], Tensor]]:
        """The stages that the flows run."""


def find_record(module: nn.Module) -> Grafted | None:
    """The record of ``module``; None where no graft has changed it."""
    record = getattr(module, "attn_mm", None)
    return record if isinstance(record, Grafted) else None


def record_of(net: Any) -> Grafted:
    """The record of ``net``, for a graft to write in; an empty one is put on it where it has none."""
    record = find_record(net)
    if record is None:
        record = net.attn_mm = Grafted()
    return record


def find_flows(module: nn.Module) -> Flows | None:
    """How ``module`` runs in flows; None where it does not."""
    record = find_record(module)
    return None if record is None else record.flows
