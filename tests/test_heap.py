"""Freed memory stays with the process, so that a training step does not wait for the kernel."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from pipeline.heap import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def steps(n):
    for _ in range(n):
        np.ones(2**22)  # 32 MiB
steps(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
steps(8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_large_pieces_are_taken_from_the_kernel_once() -> None:
    faults = {}
    for how in ("kept", "as it comes"):
        done = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True)
        faults[how] = int(done.stdout)
    assert faults["kept"] < faults["as it comes"] / 10, faults
