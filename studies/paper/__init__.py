"""The paper's experiments: its claims as data, what each trains, and how it is judged."""
