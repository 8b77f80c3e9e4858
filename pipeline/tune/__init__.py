"""``pipe tune``: a search over settings, scored out-of-fold on some folds and judged on the others."""
