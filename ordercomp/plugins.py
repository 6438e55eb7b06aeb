"""Stages of other packages: classes that the entry-point group `ordercomp.stages` names by their letter."""

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

__all__ = ["stage_plugins"]


@lru_cache(maxsize=1)
def stage_plugins() -> Mapping[str, Any]:
    """The classes by letter, as they are; `known_stages` checks them. Raises what their import raises."""
    return {entry.name: entry.load() for entry in entry_points(group="ordercomp.stages")}
