"""Freed memory is kept for the next tensor."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from pretrainrl.malloc import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(2**23)  # 64 MiB, 16,384 pages or 32 huge ones
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GNU's C library only")
def test_no_page_is_asked_for_twice() -> None:
    faults = {
        mode: int(subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True).stdout)
        for mode in ("keep", "give back")
    }
    assert faults["keep"] < 100 < 5 * 32 <= faults["give back"]
