"""Stages of other packages: classes that the entry-point group `ordercomp.stages` names by their letter."""

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

from torch import nn


@lru_cache(maxsize=1)
def stage_plugins() -> Mapping[str, Any]:
    """The classes by letter, as they are; `known_stages` checks them. Raises what their import raises."""
    return {entry.name: entry.load() for entry in entry_points(group="ordercomp.stages")}


def rebuild_module(letter: str, module: nn.Module, facts: Mapping[str, Any]) -> nn.Module:
    """What the stage `letter` put in the place of `module`. Raises ValueError if nobody offers that stage."""
    if letter not in stage_plugins():
        raise ValueError(
            f"stage {letter} made layers of it, and no installed package offers that stage; "
            f"install the one that does (entry point {letter} in the group ordercomp.stages)"
        )
    made: nn.Module = stage_plugins()[letter].rebuild(module, facts)
    return made
