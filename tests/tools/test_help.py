"""Every command explains itself, at once, and refuses an unknown flag with exit code 2."""

from __future__ import annotations

import subprocess
import sys

import pytest
from scripts import ROOT

COMMANDS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("tools", "tools/analysis", "data_prep")
    for path in (ROOT / folder).glob("*.py")
    if path.name != "__init__.py"
)
HEAVY = "torch", "mmcv", "mmdet", "matplotlib.pyplot"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_and_loads_nothing_heavy(command, tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{command!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / command)!r}, run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0, stop.code\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert "python " in done.stdout, "an example that can be copied"
    assert done.stdout.rstrip().endswith("LOADED []"), done.stdout[-200:]


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_flags_are_usage_errors(command, tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / command), "--no-such-flag"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, fdam_rotate, fdam_rotate.dota; print([n for n in ('torch', 'mmcv', 'cv2') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
