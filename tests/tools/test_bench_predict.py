"""tools/bench/predict.py: it measures every way by turns, sees that they agree, and asks a peer in its own process."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT, load_script
from small_config import write_small_config

from fdam_rotate.dota.errors import DotaError

PEER = """#!/bin/sh
echo "ready a peer of {words}"
while read line; do sleep 0.001; echo done; done
"""

#: The program in a process of its own, as it is used; both models are the second config's, since writing one takes most
#: of the time, and the runtimes are the same on every processor.
SMALLER = """
import sys
from pathlib import Path
from scripts import load_script

bench = load_script("tools/bench/predict.py")
kind, kept = bench._Model, []

def shared(folder, name, config, size):
    if not kept:
        kept.append(kind(folder, name, Path(sys.argv[sys.argv.index("--configs") + 2]), size))
    return kept[0]

bench._Model, bench._CANDIDATES = shared, 60
bench._runtimes = lambda: (["onnxruntime", "openvino"], [])
sys.exit(bench.main(sys.argv[1:]))
"""


@pytest.fixture
def bench():
    return load_script("tools/bench/predict.py")


@pytest.fixture
def configs(tmp_path: Path) -> list[str]:
    found = []
    for name, base in (("small", "lsknet/lsk_s_fpn_1x_dota_le90"), ("fdam", "lsknet_fdam/lsk_s_fdam_fpn_1x_dota_le90")):
        more = ", test_cfg=dict(rpn=dict(max_per_img=200))"
        found.append(str(write_small_config(tmp_path / f"{name}.py", base, more=more)))
    return found


def program(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.slow
def test_every_way_is_a_row(configs, tmp_path):
    pytest.importorskip("openvino")
    peer = program(tmp_path / "python", PEER.format(words="$# words"))
    words = ["--size", "96", "--rounds", "2", "--threads", "1", "--configs", *configs, "--peer-python", peer]
    path = [ROOT, ROOT / "tests" / "support"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SMALLER, *words, "--json", str(tmp_path / "table.json")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    table = json.loads((tmp_path / "table.json").read_text())
    assert (table["size"], table["threads"], table["configs"]) == (96, 1, ["small", "fdam"])
    assert "YOLO11m-obb torch: a peer of 5 words" in table["notes"]
    rows = table["rows"]
    network = [(row["ours"], row["other"]) for row in rows if row["what"] == "backbone and neck"]
    assert {("FDAM onnxruntime", "plain onnxruntime"), ("FDAM openvino", "plain openvino")} <= set(network)
    assert len(network) == 2
    faster = ("torch", "onnxruntime", "openvino")
    expected = [(f"{name} {way}", f"{name} torch planar") for name in ("plain", "FDAM") for way in faster]
    expected += [(f"FDAM {way}", f"plain {way}") for way in ("torch planar", *faster)]
    expected += [(f"{name} {way}", "YOLO11m-obb torch") for name in ("plain", "FDAM") for way in faster]
    assert [(row["ours"], row["other"]) for row in rows if row["what"].startswith("window")] == expected
    for row in rows:
        assert row["unit"] == "ms"
        assert all(math.isfinite(row[key]) and row[key] > 0 for key in ("ours_value", "other_value", "ratio")), row
    boxes = {int(row["what"].split()[1]) for row in rows if row["what"].endswith("boxes")}
    assert all(10 < count <= 62 for count in boxes), "60 pairs pass, and suppression leaves some"
    printed = done.stdout.splitlines()
    assert len(printed) == 1 + len(table["notes"]) + len(rows)


def test_different_numbers_of_boxes_end_the_run(bench, monkeypatch):
    class Way:
        def __init__(self, *_: object, **__: object) -> None:
            self.scores = range(40)

        prepare = in_torch = detect = lambda self, *_: [self] if _ and isinstance(_[0], list) else self

    class Fewer(Way):
        def __init__(self, *_: object, **__: object) -> None:
            self.scores = range(30)

    import fdam_rotate.dota.predicting.onnx_model as module

    monkeypatch.setattr(module, "OnnxModel", Fewer)
    model = Way()
    model.whole = model.window = None
    args = bench.build_parser().parse_args(["--rounds", "2"])
    with pytest.raises(DotaError, match="40 in torch planar, 40 in torch, 30 in onnxruntime"):
        list(bench._windows(args, {"plain": model}, ["onnxruntime"], None))


def test_a_peer_that_is_not_there_is_a_line(bench, tmp_path):
    def notes(python: str) -> list[str]:
        found: list[str] = []
        with bench._peer(bench.build_parser().parse_args(["--peer-python", python]), found) as peer:
            assert peer is None
        return found

    nowhere = str(tmp_path / "nowhere")
    assert notes(nowhere) == [f"YOLO11m-obb torch: left out, --peer-python {nowhere}: No such file or directory"]
    absent = program(tmp_path / "absent", '#!/bin/sh\necho "absent No module named ultralytics"\n')
    assert notes(absent) == [f"YOLO11m-obb torch: left out, {absent}: No module named ultralytics"]
    broken = program(tmp_path / "broken", "#!/bin/sh\necho first >&2\necho 'it is broken' >&2\nexit 3\n")
    assert notes(broken) == [f"YOLO11m-obb torch: left out, {broken}: it is broken"]


def test_a_peer_that_ends_is_an_error(bench, tmp_path):
    mortal = program(tmp_path / "mortal", "#!/bin/sh\necho ready\nread line\necho done\n")
    with bench._peer(bench.build_parser().parse_args(["--peer-python", mortal]), []) as peer:
        peer()
        with pytest.raises(DotaError, match="ended in the middle"):
            peer()


def test_wrong_numbers_are_usage_errors(bench, capsys):
    for words in (["--rounds", "1"], ["--threads", "0"], ["--size", "100"], ["--size", "0"]):
        with pytest.raises(SystemExit) as caught:
            bench.main(words)
        assert caught.value.code == 2
        assert words[0] in capsys.readouterr().err
