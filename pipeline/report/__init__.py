"""What people look at: scores of runs, where they come from, and the list of experiments."""
