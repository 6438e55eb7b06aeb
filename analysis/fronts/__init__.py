"""Fronts: dominance, hypervolume, and what the networks of one order reach."""
