"""Training: the only loop, the trainer that stages are handed, the recipe, and the device."""
