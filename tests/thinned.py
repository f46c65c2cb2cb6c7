"""Which of many cases are in every run; the others are in the whole matrix."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def thinned(cases: Iterable[Any], shown: Collection[Any], several: bool = False) -> list:
    """The cases for ``parametrize``; those that are not ``shown`` only meet the same code again.

    With ``several``, a case is a tuple of the values of several arguments.
    """

    def left_out(case):
        return pytest.param(*(case if several else [case]), marks=pytest.mark.whole)

    return [case if case in shown else left_out(case) for case in cases]
