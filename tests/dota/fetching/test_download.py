"""Downloads against a local server that breaks connections, ignores ranges and sends wrong files; safe unpacking."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script

from fdam_rotate.dota.errors import DownloadError, OutputExistsError
from fdam_rotate.dota.fetching import download as module
from fdam_rotate.dota.fetching import unpack as unpack_module
from fdam_rotate.dota.fetching.download import ARCHIVES, Archive, check_space, fetch, select
from fdam_rotate.dota.fetching.unpack import unpack

DATA = bytes(range(256)) * 400 + b"the end"  # 102,407 bytes


def load(name: str) -> ModuleType:
    return load_script(f"data_prep/{name}.py")


class Host:
    """A server of files; ``cuts`` are the bytes after which the next answers break off, ``log`` what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.ranges = True
        self.log: list[tuple[str, str | None]] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                host.log.append((self.path, asked))
                if host.statuses and (status := host.statuses.pop(0)):
                    self.send_error(status)
                    return
                if self.path.startswith("/moved/"):
                    self.send_response(302)
                    self.send_header("Location", self.path.removeprefix("/moved"))
                    self.end_headers()
                    return
                body = host.files.get(self.path.lstrip("/"))
                if body is None:
                    self.send_error(404)
                    return
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and host.ranges else 0
                if start and start >= len(body):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(body)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                cut = host.cuts.pop(0) if host.cuts else len(body)
                self.wfile.write(body[start : start + cut])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def archive(self, name: str, body: bytes = DATA, **changes) -> Archive:
        self.files[name] = body
        fields = {"url": self.url + name, "sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
        fields |= {"versions": ("v1.0",), "split": "train", "kind": "images"} | changes
        return Archive(name, **fields)


@pytest.fixture
def host() -> Iterator[Host]:
    server = Host()
    yield server
    server.server.shutdown()
    server.server.server_close()


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_is_fetched_once(host: Host, tmp_path: Path) -> None:
    archive = host.archive("a.tar")
    assert fetch(archive, tmp_path).read_bytes() == DATA
    assert names(tmp_path) == ["a.tar"]
    fetch(archive, tmp_path)
    assert host.log == [("/a.tar", None)]


def test_broken_connections_go_on_where_they_broke(host: Host, tmp_path: Path) -> None:
    archive = host.archive("a.tar")
    host.cuts = [40_000, 0, 30_000]
    assert fetch(archive, tmp_path, wait=0).read_bytes() == DATA
    assert [asked for _, asked in host.log] == [None, "bytes=40000-", "bytes=40000-", "bytes=70000-"]


def test_the_next_run_goes_on_with_the_part(host: Host, tmp_path: Path) -> None:
    archive = host.archive("a.tar")
    host.cuts = [50_000, 0, 0]
    with pytest.raises(DownloadError, match=r"ended early, 2 times in a row; 50000 bytes are kept in a\.tar\.part"):
        fetch(archive, tmp_path, retries=1, wait=0)
    assert names(tmp_path) == ["a.tar.part"]
    assert fetch(archive, tmp_path).read_bytes() == DATA
    assert host.log[-1] == ("/a.tar", "bytes=50000-")
    assert names(tmp_path) == ["a.tar"]


def test_a_part_that_is_whole_needs_no_more_bytes(host: Host, tmp_path: Path) -> None:
    archive = host.archive("a.tar")
    (tmp_path / "a.tar.part").write_bytes(DATA)
    assert fetch(archive, tmp_path).read_bytes() == DATA
    assert [asked for _, asked in host.log] == [f"bytes={len(DATA)}-"]


def test_a_host_without_ranges_starts_again(host: Host, tmp_path: Path) -> None:
    archive = host.archive("a.tar")
    host.ranges = False
    (tmp_path / "a.tar.part").write_bytes(b"x" * 500)
    assert fetch(archive, tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("part", [b"something else", b"y" * (len(DATA) + 5)], ids=["short", "too-long"])
def test_a_part_of_another_file_is_thrown_away(host: Host, tmp_path: Path, part: bytes) -> None:
    archive = host.archive("a.tar")
    (tmp_path / "a.tar.part").write_bytes(part)
    assert fetch(archive, tmp_path, wait=0).read_bytes() == DATA
    assert names(tmp_path) == ["a.tar"]


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(host: Host, tmp_path: Path) -> None:
    archive = host.archive("a.tar")
    host.files["a.tar"] = DATA[:-1] + b"!"
    with pytest.raises(DownloadError, match=f"expected {archive.sha256}; the file was removed"):
        fetch(archive, tmp_path)
    assert names(tmp_path) == []


def test_a_damaged_file_of_that_name_is_set_aside(host: Host, tmp_path: Path) -> None:
    archive = host.archive("a.tar")
    (tmp_path / "a.tar").write_bytes(b"damaged")
    assert fetch(archive, tmp_path).read_bytes() == DATA
    assert names(tmp_path) == ["a.tar", "a.tar.bad"]


def test_redirects_keep_the_range(host: Host, tmp_path: Path) -> None:
    archive = host.archive("a.tar", url=f"{host.url}moved/a.tar")
    (tmp_path / "a.tar.part").write_bytes(DATA[:1000])
    assert fetch(archive, tmp_path).read_bytes() == DATA
    assert host.log == [("/moved/a.tar", "bytes=1000-"), ("/a.tar", "bytes=1000-")]


def test_a_busy_host_is_asked_again_and_a_missing_file_is_not(host: Host, tmp_path: Path) -> None:
    archive = host.archive("a.tar")
    host.statuses = [503, 429]
    fetch(archive, tmp_path, wait=0)
    assert len(host.log) == 3
    with pytest.raises(DownloadError, match="HTTP 404"):
        fetch(host.archive("b.tar", url=f"{host.url}nothing"), tmp_path, wait=0)
    assert len(host.log) == 4


@pytest.mark.parametrize(("status", "asked"), [(408, 2), (425, 2), (429, 2), (500, 2), (502, 2), (503, 2), (504, 2),
                                               (400, 1), (401, 1), (403, 1), (410, 1), (501, 1), (505, 1)])  # fmt: skip
def test_which_answers_may_pass(host: Host, tmp_path: Path, status: int, asked: int) -> None:
    host.statuses = [status]
    if asked == 2:
        fetch(host.archive("a.tar"), tmp_path, wait=0)
    else:
        with pytest.raises(DownloadError, match=f"HTTP {status}"):
            fetch(host.archive("a.tar"), tmp_path, wait=0)
    assert len(host.log) == asked


def test_a_host_that_keeps_breaking_is_asked_six_times(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    host.cuts = [0] * 20
    with pytest.raises(DownloadError, match="6 times in a row"):
        fetch(host.archive("a.tar"), tmp_path)
    assert len(host.log) == 6


def test_offline_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: pytest.fail("it waited"))
    archive = host.archive("a.tar", url="http://no-such-host.invalid/a.tar")
    with pytest.raises(DownloadError, match="is this machine online"):
        fetch(archive, tmp_path)
    closed = host.archive("a.tar", url="http://127.0.0.1:9/a.tar")
    with pytest.raises(DownloadError, match="refused"):
        fetch(closed, tmp_path, retries=0)


def test_waits_double(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(module.time, "sleep", waited.append)
    host.cuts = [0, 0, 0, 10, 0]
    fetch(host.archive("a.tar"), tmp_path, wait=2)
    assert waited == [2, 4, 8, 2, 2]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/a.tar", "a.tar"])
def test_other_addresses_are_refused(host: Host, tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="only http and https"):
        fetch(host.archive("a.tar", url=url), tmp_path)


def test_a_full_disk_is_told_beforehand(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DownloadError, match=r"1000000000\.0 GB are needed"):
        check_space(tmp_path, 10**18)
    usage = module.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match="are needed"):
        fetch(host.archive("a.tar"), tmp_path)
    assert names(tmp_path) == []


#: The first digits of the checksums in ``torchgeo/datasets/dota.py``.
PUBLISHED = {
    "dotav1.0_images_train": "2fd69eeb9ba0", "dotav1.0_images_val": "f7ab9c570b3a",
    "dotav2.0_images_train": "ceccafe50e4e", "dotav2.0_images_val": "76005d65bc1d",
    "dotav1.0_annotations_train": "79096d14f506", "dotav1.0_annotations_val": "879e8f013a52",
    "dotav1.5_annotations_train": "0c8fe411f503", "dotav1.5_annotations_val": "d9a5c8412f00",
    "dotav2.0_annotations_train": "f142824f6eaf", "dotav2.0_annotations_val": "66cde2e76f13",
}  # fmt: skip


def test_the_table_of_dota() -> None:
    assert {archive.name.removesuffix(".tar.gz"): archive.sha256[:12] for archive in ARCHIVES} == PUBLISHED
    for version, images in (("v1.0", 1), ("v1.5", 1), ("v2.0", 2)):
        for split in ("train", "val"):
            chosen = select(ARCHIVES, version, [split])
            assert [a.kind for a in chosen] == ["images"] * images + ["annotations"]
            assert f"dota{version}_annotations_{split}" in chosen[-1].name
            assert f"dotav1.0_images_{split}" in chosen[0].name
    assert all(re.fullmatch("[0-9a-f]{64}", a.sha256) and a.url.startswith("https://") for a in ARCHIVES)
    assert len({a.sha256 for a in ARCHIVES}) == len({a.name for a in ARCHIVES}) == 10
    with pytest.raises(DownloadError, match=r"no archive of v1\.0 test; there are v1\.0 train"):
        select(ARCHIVES, "v1.0", ["test"])


def tar_of(members: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as package:
        for name, body in members.items():
            info = body if isinstance(body, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(body, bytes):
                info.size = len(body)
            package.addfile(info, io.BytesIO(body) if isinstance(body, bytes) else None)
    return buffer.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        for name, body in members.items():
            package.writestr(name, body)
    return buffer.getvalue()


def badly_named_zip() -> bytes:
    """Its one name is said to be UTF-8, and is not."""
    body = bytearray(zip_of({"ab.png": b"x"}))
    entry = body.index(b"PK\x01\x02")
    body[entry + 9] |= 8
    body[entry + 46 : entry + 48] = b"\xff\xfe"
    return bytes(body)


MEMBERS = {
    "train/images/P0001.png": b"one",
    "train/images/deep/P0002.PNG": b"two",
    "train/annotations/version1.0/P0001.txt": b"label",
    "train/annotations/version1.5/P0001.txt": b"label 1.5",
    "train/annotations/labelTxt-v1.0_hbb/P0001.txt": b"upright",
    "Train_Task2_gt/trainset_reclabelTxt/P0001.txt": b"upright",
    "train/readme.md": b"read me",
    "__MACOSX/images/._P0001.png": b"junk",
}


@pytest.mark.parametrize("kind", ["tar.gz", "tar", "zip"])
def test_archives_are_unpacked_whatever_their_folders(tmp_path: Path, kind: str) -> None:
    body = zip_of(MEMBERS) if kind == "zip" else tar_of(MEMBERS, "w:gz" if kind == "tar.gz" else "w")
    (tmp_path / f"a.{kind}").write_bytes(body)
    out = tmp_path / "out"
    summary = unpack(tmp_path / f"a.{kind}", out, version="v1.0")
    assert names(out) == ["images/P0001.png", "images/P0002.PNG", "labelTxt/P0001.txt"]
    assert (out / "labelTxt/P0001.txt").read_bytes() == b"label"
    assert (summary.images, summary.labels) == (2, 1)
    assert summary.passed == {
        "labels of other versions": 1, "labels of upright boxes": 2, ".md files": 1, "hidden files": 1,
    }  # fmt: skip
    # again: nothing is written anew
    stamps = {name: (out / name).stat().st_mtime_ns for name in names(out)}
    (out / "images/P0001.png").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"has 3 bytes, .*P0001\.png has 4"):
        unpack(tmp_path / f"a.{kind}", out, version="v1.0")
    assert (out / "images/P0001.png").read_bytes() == b"mine"
    (out / "images/P0001.png").unlink()
    unpack(tmp_path / f"a.{kind}", out, version="v1.0")
    assert (out / "images/P0001.png").read_bytes() == b"one"
    assert (out / "images/P0002.PNG").stat().st_mtime_ns == stamps["images/P0002.PNG"]


@pytest.mark.parametrize("name", ["trainset_reclabelTxt.zip", "DOTA-v1.5_train_hbb.zip", "val_Task2_gt.zip"])
def test_an_archive_named_after_upright_boxes_replaces_no_label(name: str, tmp_path: Path) -> None:
    (tmp_path / "labelTxt.zip").write_bytes(zip_of({"P1.txt": b"oriented"}))
    (tmp_path / name).write_bytes(zip_of({"P1.txt": b"upright!"}))
    unpack(tmp_path / "labelTxt.zip", tmp_path / "out")
    assert unpack(tmp_path / name, tmp_path / "out").passed == {"labels of upright boxes": 1}
    assert (tmp_path / "out/labelTxt/P1.txt").read_bytes() == b"oriented"


def test_other_labels_of_the_same_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of({"P1.txt": b"oriented"}))
    (tmp_path / "b.tar").write_bytes(tar_of({"P0.txt": b"x", "P1.txt": b"upright!"}, "w"))  # as many bytes
    for _ in range(2):
        assert unpack(tmp_path / "a.zip", tmp_path / "out").labels == 1
    with pytest.raises(
        DownloadError, match=r"b\.tar: 'P1\.txt' is not what .*P1\.txt holds: labels of another version"
    ):
        unpack(tmp_path / "b.tar", tmp_path / "out")
    assert (tmp_path / "out/labelTxt/P1.txt").read_bytes() == b"oriented"


def test_archives_within_an_archive_are_told(tmp_path: Path) -> None:
    (tmp_path / "drive.zip").write_bytes(zip_of({"labelTxt-v1.0/labelTxt.zip": zip_of({"P1.txt": b"a"})}))
    assert list(unpack(tmp_path / "drive.zip", tmp_path / "out").passed) == [
        "archives within it (unpack those, and name them too)"
    ]


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (tar_of({"../evil.png": b"x"}), "leaves the folder"),
        (tar_of({"/evil.png": b"x"}), "leaves the folder"),
        (tar_of({"a/../../evil.txt": b"x"}), "leaves the folder"),
        (zip_of({"../evil.png": b"x"}), "leaves the folder"),
        (zip_of({"..\\evil.png": b"x"}), "leaves the folder"),
        (zip_of({"C:evil.png": b"x"}), "leaves the folder"),
        (tar_of({"a.png": link("a.png", tarfile.SYMTYPE, "/etc/passwd")}), "is a link"),
        (tar_of({"a.png": link("a.png", tarfile.LNKTYPE, "../x")}), "is a link"),
        (tar_of({"a.png": link("a.png", tarfile.FIFOTYPE, "")}), "is a device"),
        (tar_of({"images/a\nb.png": b"x"}), "refused: .a.nb.png. cannot be a file name"),
        (tar_of({"x/a.png": b"1", "y/a.png": b"2"}), "two members for images/a.png"),
        (tar_of({"x/a.png": bytes(100_000)})[:80], "damaged"),
        (zip_of({"x/a.png": b"123456789" * 50})[:-30], "damaged"),
        (badly_named_zip(), "damaged, or no tar or zip"),
        (b"no archive at all", "damaged, or no tar or zip"),
        (b"", "damaged, or no tar or zip"),
    ],
    ids=[
        "tar-up", "tar-absolute", "tar-up-within", "zip-up", "zip-backslash", "zip-drive", "symlink", "hardlink",
        "fifo", "line-end", "twice", "tar-cut", "zip-cut", "zip-name", "text", "empty",
    ],
)  # fmt: skip
def test_unsafe_and_damaged_archives_are_refused(tmp_path: Path, body: bytes, reason: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(body)
    with pytest.raises(DownloadError, match=reason):
        unpack(tmp_path / "in" / "a", tmp_path / "in" / "out")
    assert names(tmp_path) in (["in/a"], ["in/a", "in/out/images/a.png"])


def test_hidden_files_are_passed_over_and_a_missing_archive_is_named(tmp_path: Path) -> None:
    members = {"images/.a.png": b"x", "images/._b.png": b"x", "__MACOSX/images/c.png": b"x", "images/d.png": b"x"}
    (tmp_path / "a.zip").write_bytes(zip_of(members))
    summary = unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (summary.images, dict(summary.passed)) == (1, {"hidden files": 3})
    assert names(tmp_path / "out") == ["images/d.png"]
    with pytest.raises(FileNotFoundError, match=r"archive .*nothing\.zip does not exist"):
        unpack(tmp_path / "nothing.zip", tmp_path / "out")


def test_an_error_of_the_disk_is_not_the_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of({"images/a.png": b"x"}))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpack_module, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as package:
        package.writestr(info, "/etc/passwd")
    with pytest.raises(DownloadError, match="is a symbolic link"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_flipped_bit_in_a_zip_is_told(tmp_path: Path) -> None:
    body = bytearray(zip_of({"a.png": b"123456789" * 50}))
    body[40] ^= 0x10
    (tmp_path / "a.zip").write_bytes(body)
    with pytest.raises(DownloadError, match="damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert names(tmp_path / "out") == []


@pytest.fixture
def small_dota(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archives of a small DOTA, on the local server."""
    archives = []
    for split in ("train", "val"):
        pictures = tar_of({f"{split}/images/P{k}.png": b"%d" % k for k in range(3)})
        texts = tar_of({f"{split}/annotations/version1.0/P{k}.txt": b"" for k in range(3)})
        for kind, body in (("images", pictures), ("annotations", texts)):
            archives.append(host.archive(f"{kind}_{split}.tar.gz", body, split=split, kind=kind))
    monkeypatch.setattr(module, "ARCHIVES", tuple(archives))


def test_command_fetches_and_unpacks_and_goes_on(
    host: Host, small_dota: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = load("download").main
    out = tmp_path / "DOTA"
    argv = ["--out", str(out), "--accept-terms", "--retries", "0"]
    assert main([*argv, "--dry-run"]) == 0
    assert not out.exists()
    host.cuts = [10**6, 5, 0]  # the second archive breaks off
    with pytest.raises(DownloadError, match="run the same command again"):
        main(argv)
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "academic purposes only" in text
    assert "train 3 images, 3 label files; val 3 images, 3 label files" in text
    asked = [path for path, _ in host.log]
    assert asked.count("/images_train.tar.gz") == 1
    assert [p for p in names(out) if p.startswith("val")] == [
        *(f"val/images/P{k}.png" for k in range(3)), *(f"val/labelTxt/P{k}.txt" for k in range(3)),
    ]  # fmt: skip
    count = len(host.log)
    assert main(argv) == 0
    assert len(host.log) == count


def test_command_deletes_archives_when_told(small_dota: None, tmp_path: Path) -> None:
    main = load("download").main
    out = tmp_path / "DOTA"
    assert main(["--out", str(out), "--accept-terms", "--delete-archives", "--splits", "val"]) == 0
    assert [p for p in names(out) if p.startswith("archives")] == []
    assert len([p for p in names(out) if p.startswith("val")]) == 6


def test_command_asks_for_the_terms(
    host: Host, small_dota: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load("download").main(["--out", str(tmp_path / "DOTA")]) == 2
    captured = capsys.readouterr()
    assert "any commercial use is prohibited" in captured.out
    assert "--accept-terms" in captured.err
    assert host.log == []
    assert not (tmp_path / "DOTA").exists()


def test_command_unpacks_what_the_user_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = load("download").main
    (tmp_path / "part1.zip").write_bytes(zip_of({"images/P1.png": b"1"}))
    (tmp_path / "part2.zip").write_bytes(zip_of({"images/P2.png": b"2"}))
    (tmp_path / "labelTxt.zip").write_bytes(zip_of({"P1.txt": b"a", "P2.txt": b"b"}))
    out = tmp_path / "DOTA"
    train = [str(tmp_path / name) for name in ("part1.zip", "part2.zip", "labelTxt.zip")]
    assert main(["--out", str(out), "--unpack", "train", *train, "--unpack", "test", str(tmp_path / "part1.zip")]) == 0
    assert "train 2 images, 2 label files; test 1 image, 0 label files" in capsys.readouterr().out
    assert names(out) == [
        "download.json", "test/images/P1.png",
        "train/images/P1.png", "train/images/P2.png", "train/labelTxt/P1.txt", "train/labelTxt/P2.txt",
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError, match=r"missing\.zip does not exist"):
        main(["--out", str(tmp_path / "new"), "--unpack", "train", train[0], str(tmp_path / "missing.zip")])
    assert not (tmp_path / "new").exists()


def test_command_refuses_folders_of_others(tmp_path: Path) -> None:
    main = load("download").main
    (tmp_path / "p.zip").write_bytes(zip_of({"images/P1.png": b"1"}))
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="not from this command"):
        main(["--out", str(other), "--unpack", "train", str(tmp_path / "p.zip")])
    out = tmp_path / "DOTA"
    assert main(["--out", str(out), "--unpack", "train", str(tmp_path / "p.zip")]) == 0
    with pytest.raises(OutputExistsError, match=r"holds DOTA-v1\.0; give another folder for v1\.5"):
        main(["--out", str(out), "--version", "v1.5", "--unpack", "train", str(tmp_path / "p.zip")])
    (out / "download.json").write_text("[]")
    with pytest.raises(DownloadError, match="damaged"):
        main(["--out", str(out), "--unpack", "train", str(tmp_path / "p.zip")])
