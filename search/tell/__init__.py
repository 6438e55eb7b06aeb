"""Telling: the study, where it lives, whose its trials are, and how results come back into it."""
