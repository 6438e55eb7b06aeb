"""Defaults of a race, light to import: the command line names them before anything heavy is loaded."""

from ordercomp.records import CostName

LOSS = 0.02  # tolerated, a fraction of accuracy
SEEDS = 6  # at most; on digits two cores take four in eight minutes, and the same command goes on
COST: CostName = "bitops"  # whose reduction the answer is about
