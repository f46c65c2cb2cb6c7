"""Which of many cases are in every run; the others are in the whole matrix."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def thinned(cases: Iterable[Any], shown: Collection[Any]) -> list:
    """The cases for ``parametrize``; those that are not ``shown`` only meet the same code again."""
    return [case if case in shown else pytest.param(case, marks=pytest.mark.whole) for case in cases]
