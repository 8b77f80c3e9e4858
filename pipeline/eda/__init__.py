"""A look at the data before training: who is there, how photos look, which are odd or nearly the same."""
