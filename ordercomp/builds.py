"""Builds of this package: which of them make the same results, as far as their names tell."""

from collections.abc import Mapping
from types import MappingProxyType

# Builds that named results by a hash over their source, and what the same results were called later.
RENAMED: Mapping[str, str] = MappingProxyType({"0.1.0+bbcba8a9b22a0d95": "3526b5f9fa08"})


def results_of(build: str) -> str:
    """What the results of a build, such as "0.2.0+3526b5f9fa08", are known by: those of a name are equal."""
    return RENAMED.get(build, build.partition("+")[2] or build)
