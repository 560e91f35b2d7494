"""The disk made of its contents: a folder compiled and copied together, then an ext4 image of it, without mounting."""

import marshal
import os
import shutil
import subprocess
from collections.abc import Iterable
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path, PurePosixPath
from string import Template

from launcher.guest_disk.contents import AUTHORITIES, INTERPRETER, LIBRARIES, SITE, VERSION, Entry
from launcher.guest_disk.failure import CannotBuildGuestDisk
from launcher.guest_disk.libraries import Libraries, find_libraries

LABEL = "VMBROKER"
MKFS = "mkfs.ext4"
DEBUGFS = "debugfs"
PROGRAM_TIMEOUT_S = 120
BLOCK_BYTES = 4096
INODE_BYTES = 256
SPARE_BYTES = 2 * 1024 * 1024
EPOCH_S = 1
"""Every file's time: there is none that would mean something, and the same files are to make the same image."""
FIRST_INODE = 11
TIMES = {"atime": EPOCH_S, "atime_extra": 0, "ctime": EPOCH_S, "ctime_extra": 0}

# The features that any kernel of the last fifteen years mounts; a read-only disk has no use for a journal.
FEATURES = "none,filetype,extent,sparse_super,large_file"

_RUN = Template("""\
#!/bin/sh
# Runs the vmbroker guest client from wherever this disk is mounted. Without arguments it works inside a vm, and ends by
# switching that off.
here=$${0%/*}
# An image may have several ways to come here, and an item has one client: whoever comes later waits for the first, for
# the stub switches the vm off when its client ends.
running=/run/vmbroker/running
if [ $$# -eq 0 ] && mkdir -p /run/vmbroker && ! ln -s $$$$ $$running 2>/dev/null; then
	while kill -0 "$$(readlink $$running)" 2>/dev/null; do sleep 1; done
	exit 0
fi
PYTHONHOME=$$here PYTHONPATH=$$here/$site VMBROKER_AUTHORITIES=$$here/$authorities
export PYTHONHOME PYTHONPATH VMBROKER_AUTHORITIES
"$$here/$loader" --library-path "$$here/$libraries" "$$here/$interpreter" \\
	-B -P -S -s -X utf8 -c 'from guest.cli import main; main()' "$$@"
status=$$?
# The client switches off itself. It did not when it could not even start, or was killed.
if [ $$# -eq 0 ]; then
	echo "vmbroker: the client ended with status $$status; switching off" >&2
	sync
	poweroff -f || systemctl poweroff --force --force || echo o >/proc/sysrq-trigger
fi
exit $$status
""")


def make_tree(folder: Path, entries: Iterable[Entry], version: str) -> None:
    """Fill the empty folder with what is to be on the disk.

    Raises:
        CannotBuildGuestDisk: a library is missing.
    """
    entries = list(entries)
    for entry in entries:
        _put(folder, entry)
    libraries = find_libraries(entry.source for entry in entries if entry.is_binary)
    _copy(libraries.loader, folder / LIBRARIES / libraries.loader.name, 0o755)
    for name, path in libraries.files.items():
        _copy(path, folder / LIBRARIES / name, 0o644)
    (folder / VERSION).write_text(f"{version}\n")
    run = folder / "run"
    run.write_text(_run_script(libraries))
    run.chmod(0o755)
    for path in folder.rglob("*"):
        os.utime(path, (EPOCH_S, EPOCH_S))


def make_image(folder: Path, image: Path, name: str) -> None:
    """Write the folder's content into a new ext4 image, labelled `LABEL`. `name`, a UUID, becomes the filesystem's.

    Raises:
        CannotBuildGuestDisk: mkfs.ext4 is missing or failed.
    """
    sizes = [path.lstat().st_size for path in folder.rglob("*")]
    inodes = len(sizes) + 64
    content_bytes = sum(-(-size // BLOCK_BYTES) * BLOCK_BYTES for size in sizes)
    blocks = (content_bytes + inodes * INODE_BYTES + content_bytes // 50 + SPARE_BYTES) // BLOCK_BYTES
    options = {
        "-t": "ext4",
        "-L": LABEL,
        "-O": FEATURES,
        "-m": "0",
        "-b": str(BLOCK_BYTES),
        "-I": str(INODE_BYTES),
        "-N": str(inodes),
        "-U": name,
        "-E": f"root_owner=0:0,hash_seed={name}",
        "-d": str(folder),
    }
    flat = [word for option in options.items() for word in option]
    _run([MKFS, "-q", "-F", *flat, str(image), str(blocks)])
    # mkfs copies the time that nobody can set, and that of a folder read just now.
    used = (2, *range(FIRST_INODE, FIRST_INODE + len(sizes) + 1))
    words = [f"set_inode_field <{inode}> {field} {value}\n" for inode in used for field, value in TIMES.items()]
    _run([DEBUGFS, "-w", "-f", "-", str(image)], words="".join(words))


def _run_script(libraries: Libraries) -> str:
    return _RUN.substitute(
        site=SITE,
        authorities=AUTHORITIES,
        loader=LIBRARIES / libraries.loader.name,
        libraries=LIBRARIES,
        interpreter=INTERPRETER,
    )


def _put(folder: Path, entry: Entry) -> None:
    target = folder / entry.target
    if not entry.is_python:
        _copy(entry.source, target, 0o755 if entry.target == INTERPRETER else 0o644)
        return
    target = target.with_suffix(".pyc")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(compiled(entry.source.read_bytes(), entry.target))


def compiled(source: bytes, shown_as: PurePosixPath) -> bytes:
    """Compile to what is loaded without a source and without looking at any time. Source: PEP 552, unchecked hash."""
    code = compile(source, str(shown_as), "exec", dont_inherit=True, optimize=0)
    header = MAGIC_NUMBER + (0b01).to_bytes(4, "little") + source_hash(source)
    return header + marshal.dumps(code)


def _copy(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _run(command: list[str], *, words: str = "") -> None:
    program = command[0]
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "E2FSPROGS_FAKE_TIME": "1"}
    try:
        done = subprocess.run(
            command,
            input=words,
            capture_output=True,
            text=True,
            timeout=PROGRAM_TIMEOUT_S,
            check=False,
            env=environment,
        )
    except FileNotFoundError as error:
        raise CannotBuildGuestDisk(f"the command {program} is missing: install e2fsprogs") from error
    except subprocess.TimeoutExpired as error:
        raise CannotBuildGuestDisk(f"{program} did not end within {PROGRAM_TIMEOUT_S} s") from error
    if done.returncode != 0:
        raise CannotBuildGuestDisk(f"{program} failed: {done.stderr.strip()[:300]}")
