"""Whether somebody looks at what a module does, and so must be shown the output that its formula has."""

from __future__ import annotations

from torch import nn

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def is_watched(module: nn.Module) -> bool:
    """Whether ``module`` itself, not what is in it, has hooks or a forward over its class's."""
    return "forward" in vars(module) or any(getattr(module, hooks) for hooks in _HOOKS)
