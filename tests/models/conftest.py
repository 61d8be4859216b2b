"""One thread for the small maps of these tests: waiting for a second one costs more than it computes."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def _one_thread(one_thread):
    """Every test here asks for it."""
