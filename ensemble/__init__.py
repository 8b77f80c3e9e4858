"""How predictions combine: votes, weights and scores, in NumPy alone."""
