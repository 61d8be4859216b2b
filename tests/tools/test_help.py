"""Every command explains itself, at once, and refuses an unknown flag with exit code 2."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from scripts import ROOT, load_script

import fdam_rotate
from fdam_rotate.cli import run
from fdam_rotate.commands import COMMANDS as COMMAND_TABLE
from fdam_rotate.commands import main
from fdam_rotate.commands.parser import command_parser
from fdam_rotate.commands.values import config_file, existing_file
from fdam_rotate.dota.errors import DotaError, ScoreError, Stopped

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
    assert "fdam-rotate " in done.stdout.partition("usage:")[2].partition("\n\n")[2], "an example that can be copied"
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
    *notes, line = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(" --help")
    assert len(notes) == command.endswith("/convert.py"), "the former names say so"


def test_every_command_has_its_module_its_script_and_one_line():
    modules = {path.stem for path in (ROOT / "fdam_rotate" / "commands").glob("*.py")}
    modules -= {"__init__", "__main__", "arguments", "parser", "values"}
    assert {name.replace("-", "_") for name in COMMAND_TABLE} == modules
    former = {"tools/convert.py", "data_prep/convert.py"}
    scripts = {Path(command).stem for command in COMMANDS if command not in former}
    assert scripts == modules
    for command in set(COMMANDS) - former:
        module = load_script(command)
        name = Path(command).stem
        assert module.main is importlib.import_module(f"fdam_rotate.commands.{name}").main
        assert module.build_parser().prog == f"fdam-rotate {name.replace('_', '-')}"
        assert f"python {command}" in module.build_parser().format_help()


def test_the_console_command_runs_lists_and_corrects(tmp_path, capsys):
    out = tmp_path / "scenes"
    assert main(["synthetic", "--out", str(out), "--train", "1", "--val", "0", "--size", "64"]) == 0
    assert (out / "train" / "images" / "T0000.png").is_file()
    capsys.readouterr()
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in COMMAND_TABLE)
    assert main([]) == 2
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == fdam_rotate.__version__
    assert main(["trian"]) == 2
    assert "no command 'trian'; did you mean 'train'?" in capsys.readouterr().err
    command = [sys.executable, "-m", "fdam_rotate.commands", "merge", "nowhere", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n"), done.stderr[:7]) == (1, 1, "error: ")


def test_configs_are_found_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = ROOT / "configs" / "lsknet" / "lsk_s_fpn_1x_dota_le90.py"
    for name in ("lsk_s_fpn_1x_dota_le90", "lsknet/lsk_s_fpn_1x_dota_le90", "lsk_s_fpn_1x_dota_le90.py",
                 "configs/lsknet/lsk_s_fpn_1x_dota_le90.py", str(found)):  # fmt: skip
        assert config_file(name) == found
    own = tmp_path / "lsk_s_fpn_1x_dota_le90.py"
    own.write_text("")
    assert config_file(own.name) == Path(own.name), "a file here goes first"
    assert config_file("mine.py") == Path("mine.py")
    parser = command_parser("test", "", "")
    parser.add_argument("config", type=config_file)
    parser.add_argument("--start", type=existing_file)
    assert parser.parse_args([own.name]).config == Path(own.name)
    with pytest.raises(
        FileNotFoundError, match=r"^config: no such file: lsk_s_fpn_1x_dota_le9; did you mean 'lsk_s_fpn_1x_"
    ):
        parser.parse_args(["lsk_s_fpn_1x_dota_le9"])
    with pytest.raises(FileNotFoundError, match=r"^--start: no such file: latest\.pth$"):
        parser.parse_args([own.name, "--start", "latest.pth"])


def test_a_wheel_holds_the_commands_and_the_configs(tmp_path):
    source = tmp_path / "source"
    skipped = shutil.ignore_patterns(".*", "work_dirs", "tests", "docs", "*.egg-info", "build", "*.so", "*.cpp")
    shutil.copytree(ROOT, source, ignore=skipped)
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "built")]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    package = tmp_path / "built" / "fdam_rotate"
    for folder in ("commands", "configs"):
        there = ROOT / folder if folder == "configs" else ROOT / "fdam_rotate" / folder
        expected = {path.relative_to(there) for path in there.rglob("*.py")}
        assert {path.relative_to(package / folder) for path in (package / folder).rglob("*.py")} == expected
    code = "from fdam_rotate.commands.values import config_file; print(config_file('lsk_fdam_demo'))"
    env = {**os.environ, "PYTHONPATH": str(package.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(package / "configs" / "demo" / "lsk_fdam_demo.py")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"fdam-rotate": "fdam_rotate.commands:console"}


@pytest.mark.parametrize(
    ("end", "code", "line"),
    [
        (0, 0, ""),
        (1, 1, ""),
        (DotaError("a.txt:1: x"), 1, "error: a.txt:1: x\n"),
        (FileNotFoundError("no such file: a"), 1, "error: no such file: a\n"),
        (FloatingPointError("the loss became nan"), 1, "error: the loss became nan\n"),
        (ScoreError("no ground truth"), 2, "error: no ground truth\n"),
        (Stopped("at iteration 7", 15), 143, "stopped: at iteration 7\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_end_of_a_command_has_its_exit_code_and_one_line(end, code, line, capsys):
    def command():
        if isinstance(end, BaseException):
            raise end
        return end

    with pytest.raises(SystemExit) as stop:
        run(command)
    assert (stop.value.code, capsys.readouterr().err) == (code, line)
    with pytest.raises(KeyError):  # a fault of ours is no line
        run(lambda: {}["x"])


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, fdam_rotate, fdam_rotate.dota; print([n for n in ('torch', 'mmcv', 'cv2') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
