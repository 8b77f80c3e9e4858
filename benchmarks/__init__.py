"""Commands that measure; their results stand in LOG.md."""
