"""Checks of the contract of a stage, for stages of your own: `stage_checks` and what it is made of."""

from ordercomp.testing.contract import (
    ORDERS,
    StageCheck,
    check_declaration,
    check_stage,
    network_after,
    stage_checks,
)

__all__ = ["ORDERS", "StageCheck", "check_declaration", "check_stage", "network_after", "stage_checks"]
