"""``anomaly data``: the counts as facts, verify, prepare from a file and from a server, and archives that are refused."""

from __future__ import annotations

import io
import stat
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from anomaly_core import DataError
from anomaly_datasets import facts, prepare
from anomaly_datasets.archives import unpack
from anomaly_datasets.commands import data
from anomaly_datasets.facts import FACTS


def invoke(*arguments):
    return CliRunner().invoke(data, [str(item) for item in arguments])


@pytest.mark.parametrize("name", FACTS)
def test_the_facts_of_each_category_add_up(name):
    known = FACTS[name]
    if not known.per_category:  # only the totals are published
        return
    assert tuple(known.per_category) == known.categories
    assert tuple(map(sum, zip(*known.per_category.values(), strict=True))) == known.totals


def test_the_published_totals():
    assert facts.MVTEC.totals == (3629, 467, 1258) and len(facts.MVTEC.categories) == 15
    assert facts.VISA.totals == (8659, 962, 1200) and len(facts.VISA.categories) == 12


@pytest.fixture
def small_mvtec(monkeypatch):
    """As if MVTec AD had published what the miniature tree holds, its missing mask included."""
    small = facts.Facts(
        ("bottle", "grid"), (6, 2, 4), facts.MVTEC.layout, {"bottle": (3, 1, 2), "grid": (3, 1, 2)}, masked=True
    )
    monkeypatch.setitem(FACTS, "mvtec", small)


def test_verify_prints_a_table_and_differs(mvtec_tree, small_mvtec, mask):
    result = invoke("verify", "mvtec", "--root", mvtec_tree)
    assert result.exit_code == 1
    assert "1/2" in result.output and "2 of 2 categories differ" in result.output  # a mask is missing in each
    for category in ("bottle", "grid"):
        mask(mvtec_tree / category / "ground_truth" / "broken" / "001_mask.png")
    result = invoke("verify", "mvtec", "--root", mvtec_tree)
    assert result.exit_code == 0, result.output
    assert "complete, 2 categories" in result.output


def test_verify_names_what_is_not_there(visa_tree):
    result = invoke("verify", "visa", "--root", visa_tree)
    assert result.exit_code == 1
    assert "2/900" in result.output and "pcb1" in result.output and "not there" in result.output
    missing = invoke("verify", "btad", "--root", visa_tree / "nowhere")
    assert isinstance(missing.exception, DataError)


def test_verify_elpv():
    pytest.importorskip("elpv_dataset")
    result = invoke("verify", "elpv")
    assert result.exit_code == 0, result.output


def packed(tree, archive, prefix=""):
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for item in sorted(tree.rglob("*")):
                file.write(item, f"{prefix}{item.relative_to(tree)}")
    else:
        with tarfile.open(archive, "w:xz") as file:
            for item in sorted(tree.iterdir()):
                file.add(item, f"{prefix}{item.name}")
    return archive


@pytest.mark.parametrize(("name", "prefix"), [("a.tar.xz", ""), ("a.zip", ""), ("a.tar.xz", "wrapped/twice/")])
def test_prepare_unpacks_and_verifies(tmp_path, mvtec_tree, small_mvtec, name, prefix):
    archive, root = packed(mvtec_tree, tmp_path / name, prefix), tmp_path / "new" / "mvtec"
    result = invoke("prepare", "mvtec", "--archive", archive, "--root", root)
    assert result.exit_code == 1 and "1/2" in result.output  # unpacked, and the missing masks are reported
    assert (root / "grid" / "train" / "good" / "10.png").read_bytes() == (mvtec_tree / "grid/train/good/10.png").read_bytes()
    assert not [item.name for item in root.iterdir() if item.name.startswith(".")]
    again = invoke("prepare", "mvtec", "--archive", archive, "--root", root)
    assert isinstance(again.exception, DataError) and "already" in str(again.exception)


@pytest.mark.reliability
@pytest.mark.parametrize("moves", [0, 1, 2])
def test_prepare_killed_while_it_moves_goes_on(tmp_path, mvtec_tree, small_mvtec, monkeypatch, moves, record):
    archive, root = packed(mvtec_tree, tmp_path / "a.zip"), tmp_path / "new"
    rename, done = Path.rename, []

    def killed(self, target):
        if self.parent.name == ".incoming-mvtec":
            if len(done) == moves:
                raise KeyboardInterrupt
            done.append(self)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare.install("mvtec", archive, root)
    (root / ".unpack-killed").mkdir()  # as a kill while unpacking leaves it
    prepare.install("mvtec", archive, root)
    expected = {item.relative_to(mvtec_tree): item.read_bytes() for item in mvtec_tree.rglob("*") if item.is_file()}
    assert {item.relative_to(root): item.read_bytes() for item in root.rglob("*") if item.is_file()} == expected
    assert not [item.name for item in root.iterdir() if item.name.startswith(".")]
    record("fault", f"`data prepare` stopped after {moves} moved folders, then the same command")


def test_prepare_keeps_the_folder_of_btad(tmp_path, btad_tree):
    archive = packed(btad_tree, tmp_path / "btad.zip")
    result = invoke("prepare", "btad", "--archive", archive, "--root", tmp_path / "new")
    assert "2/400" in result.output and (tmp_path / "new" / "BTech_Dataset_transformed" / "01").is_dir()


def test_prepare_of_something_else(tmp_path, btad_tree):
    archive = packed(btad_tree, tmp_path / "btad.zip")
    with pytest.raises(DataError, match="holds no visa data set"):
        prepare.install("visa", archive, tmp_path / "new")
    (tmp_path / "no.tar").write_text("<html>please log in</html>")
    with pytest.raises(DataError, match="neither a tar nor a zip"):
        prepare.install("visa", tmp_path / "no.tar", tmp_path / "new")
    with pytest.raises(DataError, match="there is no archive"):
        prepare.install("visa", tmp_path / "none.tar", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def bad_tar(path, name, kind=tarfile.REGTYPE, link=""):
    with tarfile.open(path, "w") as file:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        member.size = 4 if kind == tarfile.REGTYPE else 0
        file.addfile(member, io.BytesIO(b"evil") if member.size else None)
    return path


def bad_zip(path, name, mode=0):
    with zipfile.ZipFile(path, "w") as file:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        file.writestr(member, "/etc/passwd")
    return path


@pytest.mark.reliability
@pytest.mark.parametrize(
    "make",
    [
        partial(bad_tar, name="/tmp/evil"),
        partial(bad_tar, name="../evil"),
        partial(bad_tar, name="a/../../evil"),
        partial(bad_tar, name="C:\\evil"),
        partial(bad_tar, name="link", kind=tarfile.SYMTYPE, link="/etc"),
        partial(bad_tar, name="link", kind=tarfile.SYMTYPE, link="inside"),
        partial(bad_tar, name="hard", kind=tarfile.LNKTYPE, link="/etc/passwd"),
        partial(bad_tar, name="device", kind=tarfile.CHRTYPE),
        partial(bad_tar, name="block", kind=tarfile.BLKTYPE),
        partial(bad_tar, name="pipe", kind=tarfile.FIFOTYPE),
        partial(bad_tar, name="hard", kind=tarfile.LNKTYPE, link="../../evil"),
        partial(bad_tar, name="\\\\server\\share\\evil"),
        partial(bad_zip, name="/tmp/evil"),
        partial(bad_zip, name="../evil"),
        partial(bad_zip, name="a/../../evil"),
        partial(bad_zip, name="C:/evil"),
        partial(bad_zip, name="link", mode=stat.S_IFLNK | 0o777),
        partial(bad_zip, name="device", mode=stat.S_IFCHR | 0o666),
        partial(bad_zip, name="pipe", mode=stat.S_IFIFO | 0o666),
        partial(bad_zip, name="a\\..\\..\\evil"),
    ],
)
def test_a_malicious_archive_is_refused_and_leaves_nothing(tmp_path, make, record):
    archive = make(tmp_path / "archive")
    with pytest.raises(DataError, match="is refused"):
        prepare.install("mvtec", archive, tmp_path / "deep" / "root")
    assert sorted(item.name for item in tmp_path.rglob("*")) == ["archive", "deep", "root"]
    kind = {"bad_tar": "tar", "bad_zip": "zip"}[make.func.__name__]
    record("security", f"a {kind} archive with a member that is absolute, climbs, is a link or a device")


def test_a_damaged_archive_is_an_error_of_ours(tmp_path, mvtec_tree):
    for name in ("a.tar.xz", "a.zip"):
        archive = packed(mvtec_tree, tmp_path / name)
        whole = archive.read_bytes()
        middle = len(whole) // 4
        archive.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
        (tmp_path / name[2:]).mkdir()
        with pytest.raises(DataError):
            unpack(archive, tmp_path / name[2:])


@pytest.fixture
def server(tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    (tmp_path / "www").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www"))) as http:
        http.daemon_threads = False  # closing the server then waits for its answers, whose sockets would outlive the test
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_prepare_downloads(tmp_path, mvtec_tree, small_mvtec, server):
    packed(mvtec_tree, tmp_path / "www" / "mvtec.tar.xz")
    root = tmp_path / "new"
    result = invoke("prepare", "mvtec", "--url", f"{server}/mvtec.tar.xz", "--root", root)
    assert result.exit_code == 1 and "1/2" in result.output, result.exception
    assert sorted(item.name for item in root.iterdir()) == ["bottle", "grid", "readme.txt"]


def test_a_download_that_fails_says_how_to_go_on(tmp_path, server):
    result = invoke("prepare", "visa", "--url", f"{server}/none.tar", "--root", tmp_path / "new")
    assert isinstance(result.exception, DataError)
    assert "404" in str(result.exception) and "--archive FILE" in str(result.exception)
    assert "github.com/amazon-science/spot-diff" in str(result.exception)


def test_a_download_of_another_file_is_refused(tmp_path, mvtec_tree, server, monkeypatch):
    packed(mvtec_tree, tmp_path / "www" / "mvtec.tar.xz")
    for kind, published in (("SHA-256", {"sha256": "0" * 64}), ("MD5", {"md5": "0" * 32})):
        changed = facts.Facts(("bottle",), (0, 0, 0), "", archive=f"{server}/mvtec.tar.xz", **published)
        monkeypatch.setitem(FACTS, "mvtec", changed)
        with pytest.raises(DataError, match=f"{kind} differs"):
            prepare.download_and_install("mvtec", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
