"""The disk as it is built here, taken apart again and run where there is nothing else."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.guest_disk import CannotBuildGuestDisk, GuestDisk, ensure_guest_disk
from launcher.guest_disk.contents import client_version, list_contents
from launcher.guest_disk.libraries import find_libraries

LIMIT_S = 60
MAX_IMAGE_BYTES = 60 * 1024 * 1024
ADMIN_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def output_of(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, env={"PATH": ADMIN_PATH, **environment}, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def synced() -> list[str]:
    """What was written through to the disk while the guest disk was made."""
    return []


@pytest.fixture(scope="module")
def disk(cache: Path, synced: list[str]) -> GuestDisk:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: synced.append(str(Path(f"/proc/self/fd/{number}").readlink())))
        return asyncio.run(ensure_guest_disk(cache))


@pytest.fixture(scope="module")
def tree(disk: GuestDisk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is on the disk, read back out of the image."""
    folder = tmp_path_factory.mktemp("tree")
    output_of("debugfs", "-R", f"rdump / {folder}", disk.path)
    return folder


def test_is_a_small_sound_read_only_image_with_its_label(disk: GuestDisk) -> None:
    assert disk.path.stat().st_size < MAX_IMAGE_BYTES
    assert disk.path.stat().st_mode & 0o777 == 0o444
    assert output_of("e2label", disk.path) == "VMBROKER\n"
    output_of("e2fsck", "-f", "-n", disk.path)
    assert "has_journal" not in output_of("dumpe2fs", "-h", disk.path)


def test_is_on_disk_before_it_has_its_name(disk: GuestDisk, synced: list[str]) -> None:
    draft, folder = synced
    assert Path(draft).name == "draft.img"
    assert folder == str(disk.path.parent)


def test_carries_what_a_client_needs_and_nothing_of_the_rest(tree: Path) -> None:
    assert {path.name for path in (tree / "site").iterdir()} >= {"aiohttp", "broker", "guest", "msgspec", "yarl"}
    assert {path.stem for path in (tree / "site/broker").iterdir()} == {"__init__", "client", "wire"}
    assert not list(tree.rglob("*.py"))
    assert not {"redis", "lxml", "launcher", "typer", "libvirt", "pytest"} & {path.stem for path in tree.rglob("*")}


def test_no_path_of_this_machine_is_on_the_disk(tree: Path) -> None:
    here = str(Path(__file__).parents[3]).encode()
    assert not [path for path in tree.rglob("*.pyc") if here in path.read_bytes()]


def test_the_client_runs_in_a_root_that_has_a_shell_and_nothing_else(tree: Path, tmp_path: Path) -> None:
    shell = Path("/bin/sh").resolve()
    libraries = find_libraries([shell])
    for name, path in {"bin/sh": shell, **{f"lib/{name}": path for name, path in libraries.files.items()}}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / name)
    (tmp_path / "lib64").mkdir()
    shutil.copy(libraries.loader, tmp_path / "lib64")
    shutil.copytree(tree, tmp_path / "mnt/client", symlinks=True)

    in_root = ("unshare", "-Ur", "chroot", str(tmp_path), "/bin/sh", "-c")
    said = output_of(*in_root, "/mnt/client/run --version", LD_LIBRARY_PATH="/lib")
    assert said == f"vmbroker-guest/{client_version()}\n"


def test_every_import_that_a_run_needs_comes_from_the_disk(tree: Path) -> None:
    (loader,) = (tree / "lib").glob("ld-*")
    code = (
        "import guest.cli, guest.pipeline, guest.steps.power, ssl, sys;"
        "print(ssl.OPENSSL_VERSION.split()[0], *{getattr(m, '__file__', None) or '' for m in sys.modules.values()})"
    )
    python = (loader, "--library-path", tree / "lib", tree / "bin/python3", "-B", "-P", "-S", "-s")
    said = output_of(*python, "-c", code, PYTHONHOME=str(tree), PYTHONPATH=str(tree / "site")).split()
    assert said[0] == "OpenSSL"
    assert [path for path in said[1:] if not path.startswith(str(tree))] == []


@pytest.fixture
def broken(tree: Path, tmp_path: Path) -> list[str | Path]:
    """How to start a disk that has lost all but `run`, in a /run of its own; `tmp_path/switched` tells a power-off."""
    folder = tmp_path / "broken"
    folder.mkdir()
    shutil.copy(tree / "run", folder)
    (tmp_path / "poweroff").write_text(f"#!/bin/sh\necho off >{tmp_path}/switched\n")
    (tmp_path / "poweroff").chmod(0o755)
    in_own_run = f'mount -t tmpfs none /run && PATH={tmp_path}:$PATH && . "$0"'
    return ["unshare", "-Urm", "sh", "-c", in_own_run, folder / "run"]


def status_of(command: list[str | Path], *arguments: str) -> int:
    return subprocess.run(
        [*command, *arguments], env={"PATH": ADMIN_PATH}, capture_output=True, timeout=LIMIT_S, check=False
    ).returncode


def test_a_vm_is_switched_off_even_when_the_client_cannot_start(broken: list[str | Path], tmp_path: Path) -> None:
    assert status_of(broken) == 127
    assert (tmp_path / "switched").read_text() == "off\n"

    (tmp_path / "switched").unlink()
    status_of(broken, "--version")
    assert not (tmp_path / "switched").exists()


def test_a_second_starter_waits_for_the_first_and_switches_nothing_off(
    broken: list[str | Path], tmp_path: Path
) -> None:
    first = "mkdir /run/vmbroker; (sleep 1; : >/run/ended) & ln -s $! /run/vmbroker/running"
    second = '"$0" && cat /run/ended'
    assert status_of([*broken[:4], str(broken[4]).replace('. "$0"', f"{{ {first}; {second}; }}"), broken[5]]) == 0
    assert not (tmp_path / "switched").exists()


async def test_is_built_once_for_all_launchers_of_a_node(cache: Path, disk: GuestDisk, tmp_path: Path) -> None:
    built = disk.path.stat()
    assert await ensure_guest_disk(cache) == disk
    assert disk.path.stat().st_ino == built.st_ino

    first, second = await asyncio.gather(ensure_guest_disk(tmp_path), ensure_guest_disk(tmp_path))
    assert first == second
    assert first.digest == disk.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.path.name, "guest-disk.lock"]


def test_only_the_newest_images_are_kept(tmp_path: Path) -> None:
    for number in range(5):
        old = tmp_path / f"guest-disk-{number}.img"
        old.touch()
        os.utime(old, (number, number))
    disk = asyncio.run(ensure_guest_disk(tmp_path))
    assert {path.name for path in tmp_path.glob("*.img")} == {disk.path.name, "guest-disk-4.img", "guest-disk-3.img"}


def test_a_missing_mkfs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.guest_disk.image.MKFS", "mkfs.none")
    with pytest.raises(CannotBuildGuestDisk, match=r"the command mkfs\.none is missing: install e2fsprogs"):
        asyncio.run(ensure_guest_disk(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["guest-disk.lock"]


def test_contents_are_listed_once_each_and_in_order() -> None:
    entries = list_contents()
    assert entries == sorted(entries)
    assert len({entry.target for entry in entries}) == len(entries)
