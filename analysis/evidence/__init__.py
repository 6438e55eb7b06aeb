"""Evidence: paired comparisons of stages, their uncertainty, and the precedence that they decide."""
