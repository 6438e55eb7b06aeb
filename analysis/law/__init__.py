"""The law of a set of records, and the checks that it must pass."""
