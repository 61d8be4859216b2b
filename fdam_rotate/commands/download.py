"""Fetch DOTA's train and val sets, or unpack the zip files of its page, into the layout that everything here reads.

Examples:
  fdam-rotate download --out data/DOTA --version v1.0 --accept-terms
  fdam-rotate download --out data/DOTA --unpack train train/*.zip --unpack val val/*.zip

Writes OUT/train and OUT/val with images/ and labelTxt/. Archives (tar.gz, from the copy that TorchGeo hosts)
are kept in OUT/archives; SHA-256 checksums are verified. Stopped at any moment, the same command goes on where it
stopped. The test images are not hosted there: get them from DOTA's page and use --unpack test. Exit code: 0 done,
1 failed, 2 usage.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fdam_rotate.commands.arguments import add_out
from fdam_rotate.commands.parser import CommandParser, command_parser
from fdam_rotate.commands.values import non_negative_int, positive_float
from fdam_rotate.dota.words import counted

_STATE = "download.json"


def build_parser() -> CommandParser:
    """The command line."""
    parser = command_parser("download", __doc__, "data_prep/download.py", _check)
    add_out(parser, "folder of the data set; one version of DOTA per folder")
    parser.add_former_out("OUT_DIR")
    parser.add_argument("--version", choices=("v1.0", "v1.5", "v2.0"), default="v1.0", help="of DOTA (default v1.0)")
    parser.add_argument(
        "--splits", nargs="+", choices=("train", "val"), default=("train", "val"), help="(default both)"
    )
    parser.add_argument(
        "--accept-terms", action="store_true", help="you have read DOTA's terms of use and keep to them"
    )
    unpack = "do not download: unpack archives that you have into SPLIT (train, val or test); may be repeated"
    parser.add_argument("--unpack", nargs="+", action="append", metavar=("SPLIT", "FILE"), help=unpack)
    parser.add_argument(
        "--delete-archives",
        action="store_true",
        help="remove each archive that this command fetched, once it is unpacked",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be fetched; fetch nothing")
    retries = "attempts to take up a connection that breaks without a byte gained (default 5)"
    parser.add_argument("--retries", type=non_negative_int, default=5, metavar="N", help=retries)
    parser.add_argument(
        "--timeout", type=positive_float, default=60, metavar="SECONDS", help="wait for a byte (default 60)"
    )
    return parser


def _check(parser: CommandParser, args: argparse.Namespace) -> None:
    for split, *files in args.unpack or ():
        if split not in ("train", "val", "test") or not files:
            parser.error("--unpack takes train, val or test and then the archives")


def main(argv: Sequence[str] | None = None) -> int:
    """Fetch, check and unpack; returns the exit code."""
    args = build_parser().parse_args(argv)
    from fdam_rotate.dota.fetching.download import TERMS

    print(TERMS)
    if args.unpack:
        return _unpack_local(args)
    if not (args.accept_terms or args.dry_run):
        print("error: read the terms above, and give --accept-terms if you keep to them", file=sys.stderr)
        return 2
    return _download(args)


def _download(args: argparse.Namespace) -> int:
    from fdam_rotate.dota.fetching.download import ARCHIVES, check_space, fetch, select
    from fdam_rotate.dota.fetching.unpack import unpack

    archives = select(ARCHIVES, args.version, args.splits)
    state = _read_state(args.out, args.version)
    todo = [archive for archive in archives if archive.name not in state["unpacked"]]
    total = sum(archive.size for archive in todo)
    for archive in archives:
        done = "" if archive in todo else "  (done)"
        print(f"{archive.size / 1e6:10.1f} MB  {archive.split:5}  {archive.name}{done}")
    print(f"{total / 1e9:.1f} GB to fetch, and as much again unpacked")
    if args.dry_run:
        return 0
    started = time.monotonic()
    folder = args.out / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    _write_state(args.out, state)
    there = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    largest = max((archive.size for archive in todo), default=0)
    # with --delete-archives no more than one archive lies beside the unpacked files
    check_space(args.out, total + largest if args.delete_archives else max(0, 2 * total - there))
    for archive in todo:
        brought = (folder / archive.name).is_file() and archive.name not in state.get("fetched", [])
        path = fetch(archive, folder, retries=args.retries, timeout=args.timeout, progress=True)
        if not brought:
            state["fetched"] = sorted({*state.get("fetched", []), archive.name})
            _write_state(args.out, state)
        summary = unpack(path, args.out / archive.split, version=args.version, progress=True)
        _print_summary(archive.name, summary)
        state["unpacked"][archive.name] = {"images": summary.images, "labels": summary.labels}
        _write_state(args.out, state)
        if args.delete_archives and not brought:
            path.unlink()
    _conclude(args.out, args.splits, time.monotonic() - started)
    return 0


def _unpack_local(args: argparse.Namespace) -> int:
    from fdam_rotate.dota.fetching.unpack import unpack

    started = time.monotonic()
    for _, *files in args.unpack:
        for file in files:
            if not Path(file).is_file():
                raise FileNotFoundError(f"archive {file} does not exist")
    _write_state(args.out, _read_state(args.out, args.version))
    for split, *files in args.unpack:
        for file in files:
            _print_summary(file, unpack(Path(file), args.out / split, version=args.version, progress=True))
    _conclude(args.out, [split for split, *_ in args.unpack], time.monotonic() - started)
    return 0


def _print_summary(name: str, summary: Any) -> None:
    passed = "".join(f"; passed over {count} {what}" for what, count in sorted(summary.passed.items()))
    print(f"{name}: {counted(summary.images, 'image')}, {counted(summary.labels, 'label file')}{passed}")


def _read_state(out_dir: Path, version: str) -> dict[str, Any]:
    """What earlier runs unpacked into the folder; another version there is refused."""
    from fdam_rotate.dota.errors import DownloadError, OutputExistsError

    path = out_dir / _STATE
    if not path.is_file():
        if out_dir.is_dir() and any(entry.name != "archives" for entry in out_dir.iterdir()):
            raise OutputExistsError(f"{out_dir} holds files that are not from this command; give another folder")
        return {"version": version, "unpacked": {}}
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        found, _ = state["version"], dict(state["unpacked"])
    except (ValueError, KeyError, TypeError):
        raise DownloadError(f"{path}: damaged; remove it to begin again") from None
    if found != version:
        raise OutputExistsError(f"{out_dir} holds DOTA-{found}; give another folder for {version}")
    return dict(state)


def _write_state(out_dir: Path, state: dict[str, Any]) -> None:
    from fdam_rotate.dota.files import write_text

    write_text(out_dir / _STATE, json.dumps(state, indent=1) + "\n")


def _conclude(out_dir: Path, splits: Sequence[str], seconds: float) -> None:
    counts = []
    for split in dict.fromkeys(splits):
        images, labels = (len(list((out_dir / split / name).glob("*"))) for name in ("images", "labelTxt"))
        counts.append(f"{split} {counted(images, 'image')}, {counted(labels, 'label file')}")
    print(f"{out_dir}: {'; '.join(counts)}; {seconds:.1f} s")
    print(f"next: fdam-rotate verify {out_dir} --accept zero-area self-crossing")
