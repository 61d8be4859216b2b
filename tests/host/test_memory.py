"""Memory that was freed: how often the kernel is asked for a page again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# A block of 64 MB is taken, written and freed twenty times; the page faults of the last nineteen are printed.
PROGRAM = """
import resource, sys
import torch
from fdam_rotate.apis.runtime import start_runtime
if sys.argv[1] == "runtime":
    start_runtime("none", "cpu")
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.zeros(2**24)
before = faults()
for _ in range(19):
    torch.ones(2**24)
print(faults() - before)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, how], check=True, capture_output=True, text=True
    )
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another libc's allocator")
def test_what_torch_frees_is_kept_on_the_cpu():
    assert faults("plain") > 19 * 2**24 * 4 / 2**21 / 2  # half of the fewest: pages of 2 MB
    assert faults("runtime") < faults("plain") / 5
