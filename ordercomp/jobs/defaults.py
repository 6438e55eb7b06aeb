"""Defaults of a race, light to import: the command line names them before anything heavy is loaded."""

from ordercomp.records import CostName

LOSS = 0.02  # tolerated, a fraction of accuracy
SEEDS = 12  # at most; only chains that stay in doubt come so far
COST: CostName = "bitops"  # whose reduction the answer is about
