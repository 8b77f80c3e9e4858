"""The tests, a package so that they can share what builds their data."""
