"""Designs: presets, arms and budgets, with the checks and estimates before anything trains."""
