"""One bundle made of this installation, taken apart again and run where there is little else."""

import errno
import gzip
import hashlib
import importlib.metadata
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from launcher.bundle import CannotBundle, contents, make_bundle
from launcher.bundle.archive import write_archive
from launcher.bundle.contents import Member, list_members
from launcher.bundle.making import _write
from launcher.guest_disk import GuestDisk
from launcher.interpreter import own_python

LIMIT_S = 120
VERSION = importlib.metadata.version("vmbroker")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> GuestDisk:
    path = tmp_path_factory.mktemp("disk") / "disk.img"
    path.write_bytes(b"a guest disk")
    return GuestDisk(path, "sha256:" + 64 * "a", VERSION)


@pytest.fixture(scope="module")
def members(disk: GuestDisk) -> list[Member]:
    return list_members(disk)


@pytest.fixture(scope="module")
def archive(members: list[Member]) -> bytes:
    output = io.BytesIO()
    write_archive(output, "top", members)
    return output.getvalue()


@pytest.fixture(scope="module")
def bundle(archive: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked bundle, in a folder that a careless script would take apart."""
    folder = tmp_path_factory.mktemp("place") / "it's a 'folder'"
    folder.mkdir()
    subprocess.run(["tar", "-xzf", "-", "-C", folder], input=archive, check=True, timeout=LIMIT_S)
    return folder / "top"


def said_by(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_same_files_make_the_same_bytes(archive: bytes, disk: GuestDisk) -> None:
    again = io.BytesIO()
    write_archive(again, "top", list_members(disk))
    assert hashlib.sha256(again.getvalue()).digest() == hashlib.sha256(archive).digest()


def test_every_time_is_the_one_that_the_release_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    output = io.BytesIO()
    write_archive(output, "top", [Member(PurePosixPath("a/b"), b"x")])
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(output.getvalue()))) as tar:
        assert {entry.mtime for entry in tar} == {1_700_000_000}
        assert [entry.name for entry in tar] == ["top", "top/a", "top/a/b", "top/MANIFEST"]

    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(CannotBundle, match="'today': give it as whole seconds"):
        write_archive(io.BytesIO(), "top", [])


def test_its_manifest_names_every_file_with_its_digest(bundle: Path) -> None:
    assert said_by("/usr/bin/sha256sum", "--check", "--quiet", "--strict", "MANIFEST", cwd=bundle) == ""
    listed = {line.split("  ", 1)[1] for line in (bundle / "MANIFEST").read_text().splitlines()}
    found = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert found - listed == {"MANIFEST"}


def test_runs_without_environment_by_a_link_and_whatever_python_variables_say(bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "launcher"
    link.symlink_to(bundle / "bin" / "launcher")
    assert said_by(bundle / "bin" / "launcher", "--version") == f"launcher {VERSION}\n"
    assert said_by(bundle / "bin" / "launcher", "--version", PATH="/none") == f"launcher {VERSION}\n"
    assert said_by("./launcher", "--version", cwd=tmp_path, PYTHONHOME="/none", PYTHONPATH="/none") == (
        f"launcher {VERSION}\n"
    )


def test_brings_what_a_site_installs_on_a_node_and_prints_where(bundle: Path) -> None:
    ours = Path(__file__).parents[3] / "deploy" / "node"
    its = bundle / "share" / "node"
    assert {f.relative_to(its) for f in its.rglob("*")} == {f.relative_to(ours) for f in ours.rglob("*")}
    code = "from launcher.node_files import node_files; print(node_files())"
    program = f"import sys; sys.path.insert(0, {str(bundle / 'site')!r}); {code}"
    said = subprocess.run(
        [sys.executable, "-c", program], cwd="/", env={}, capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.strip() == str(its)


def test_says_what_its_path_must_not_have(bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "a:b" / "bin"
    place.mkdir(parents=True)
    (place / "launcher").write_bytes((bundle / "bin" / "launcher").read_bytes())
    done = subprocess.run(["sh", place / "launcher"], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 2
    assert "move this bundle to a folder whose path has no ':'" in done.stderr


def test_its_own_programs_run_by_its_own_loader_and_give_nothing_of_it_to_what_they_start(bundle: Path) -> None:
    code = """if True:
        import os, subprocess, sys
        sys.path.append(sys.argv[1])
        from launcher.interpreter import own_python
        from launcher.carried import carried
        script = "import ctypes, os, sys; print(ctypes.CDLL(None).getpid() == os.getpid(), sys.prefix)"
        asked = [*own_python(), "-I", "-S", "-c", script]
        print(subprocess.run(asked, env={}, capture_output=True, text=True, check=True).stdout.strip())
        print(sorted(name for name in os.environ if name != "LC_CTYPE"), carried().guest_disk_digest)
        import libvirt, lxml.etree, ssl
        mapped = {line.split(None, 5)[-1].strip() for line in open("/proc/self/maps")}
        print(sorted(path for path in mapped if ".so" in path and not path.startswith(str(carried().folder))))
    """
    loader, libraries = bundle / "lib" / "ld-linux-x86-64.so.2", bundle / "lib"
    python = (loader, "--library-path", libraries, bundle / "libexec" / "python3")
    lines = said_by(*python, "-I", "-S", "-c", code, bundle / "site").splitlines()
    assert lines == [f"True {bundle}", "[] sha256:" + 64 * "a", "[]"]


def test_a_launcher_installed_otherwise_starts_its_programs_by_the_python_it_runs_on() -> None:
    assert len(own_python()) == 1


def test_carries_licences_and_nothing_that_only_we_need(bundle: Path) -> None:
    notice = (bundle / "NOTICE").read_text()
    assert "libvirt.so.0" in notice
    assert "aiohttp" in notice
    assert (bundle / "licences" / "lxml").is_dir()
    names = {path.name for path in (bundle / "site").iterdir()}
    assert names >= {"aiohttp", "broker", "launcher", "libvirt.py", "lxml"}
    assert not names & {"guest", "mypy", "pytest", "redis", "ruff"}
    assert {path.name for path in (bundle / "site" / "broker").glob("[a-z]*")} == {"client", "wire"}
    here = str(Path(__file__).parents[3]).encode()
    assert not [path for path in bundle.rglob("*.py*") if here in path.read_bytes()]
    assert not list((bundle / "site").rglob("direct_url.json"))


def test_refuses_an_output_in_one_sentence(tmp_path: Path) -> None:
    there = tmp_path / "there.tar.gz"
    there.write_text("kept")
    for output, sentence in (
        (there, "is there already"),
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "b.tar.gz", "is no folder"),
        (tmp_path / "b.zip", "name it .tar.gz"),
        (Path("/proc/b.tar.gz"), "cannot be made|lets this account make no file"),
    ):
        with pytest.raises(CannotBundle, match=sentence):
            make_bundle(output)
    assert there.read_text() == "kept"


def test_a_full_disk_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there.tar.gz"
    there.write_text("kept")

    def full(file: io.BufferedWriter, *_: object) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("launcher.bundle.making.write_archive", full)
    with pytest.raises(CannotBundle, match="No space left on device"):
        make_bundle(there, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["there.tar.gz"]
    assert there.read_text() == "kept"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_nothing_of_others_in_the_folder_is_written_to(
    tmp_path: Path, disk: GuestDisk, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    draft = tmp_path / f".b.tar.gz.{'5' * 16}.building"
    if kind == "link":
        draft.symlink_to(theirs)
    else:
        theirs.rename(draft)
    monkeypatch.setattr("secrets.token_hex", lambda count: "5" * 2 * count)
    with pytest.raises(FileExistsError):
        _write(draft, disk)
    assert draft.read_text() == "theirs"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of ours as it is worked on, the only one that is bundled."""
    top = tmp_path / "ours"
    top.mkdir()
    for name in ("__init__.py", "py.typed", "unit.service", ".env"):
        (top / name).touch()
    (top / "key.py").symlink_to("/etc/passwd")
    (top / "__pycache__").mkdir()
    (top / "__pycache__" / "x.pyc").touch()
    (top / ".git").mkdir()
    (top / ".git" / "x.py").touch()
    monkeypatch.setattr(contents, "_OUR_PACKAGES", ("ours",))
    monkeypatch.syspath_prepend(tmp_path)
    return top


def test_of_our_packages_nothing_but_code_is_carried(package: Path) -> None:
    assert {member.path.name for member in contents._our_packages()} == {"__init__.py", "py.typed", "unit.service"}
    (package / "notes.txt").touch()
    with pytest.raises(CannotBundle, match=f"{package}/notes.txt is nothing that a bundle carries"):
        list(contents._our_packages())
