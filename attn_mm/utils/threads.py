"""How torch's threads wait for each other on a CPU."""

from __future__ import annotations

import os

_CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def sleep_while_waiting() -> None:
    """Let torch's threads sleep while they wait for each other, unless the environment has a choice.

    OpenMP lets them spin for milliseconds after each operation. If other programs use the cores, a training
    step on two threads then takes several times as long as on one. Sleeping costs about 25 microseconds an
    operation. OpenMP reads the environment when torch is imported, so call this before.
    """
    if not any(name in os.environ for name in _CHOICES):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
