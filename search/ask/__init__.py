"""Asking: the search space, the samplers that propose in it, and what a trial is told."""
