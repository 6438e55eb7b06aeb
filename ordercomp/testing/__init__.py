"""Checks of the contract of a stage, for stages of your own: `stage_checks` and what it is made of."""
