"""Likely wrong labels: found in out-of-fold predictions, looked at by people, kept as label fixes."""
