"""Tests of exports share what torch traces."""

from traced_once import traced_once

__all__ = ["traced_once"]
