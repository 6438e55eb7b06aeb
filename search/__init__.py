"""The Optuna study over orders and knobs."""
