"""Whether the running code is recorded into a graph, which may outlive this input's sizes and this device."""

from __future__ import annotations

import torch


def is_traced() -> bool:
    """Whether the call is recorded: by torch.compile, torch.export, an ONNX exporter or torch.jit.trace."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export()


def is_traced_by_dynamo() -> bool:
    """Whether what records is Dynamo: torch.compile, and torch.export where it is strict."""
    # torch.compiler.is_exporting() doesn't tell: under torch.compile it is true as well (torch 2.11).
    return torch.compiler.is_dynamo_compiling()
