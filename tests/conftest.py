"""Shared test settings: a busy machine is no failure, and every run of the suite tries the same cases."""

from hypothesis import settings

settings.register_profile("calm", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("calm")
