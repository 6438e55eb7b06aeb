"""Defaults of a race, light to import: the command line names them before anything heavy is loaded."""

LOSS = 0.02  # tolerated, a fraction of accuracy
SEEDS = 6  # at most; on digits two cores take four in eight minutes, and the same command goes on
