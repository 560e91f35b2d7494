"""From this installation to a bundle that has been seen to run."""

import asyncio
import json
import os
import secrets
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from launcher.bundle.archive import Written, write_archive
from launcher.bundle.contents import list_members
from launcher.bundle.failure import CannotBundle
from launcher.bundle.layout import INTERPRETER, LAUNCHER, SITE
from launcher.carried import MARK, carried
from launcher.durable import rename_durably
from launcher.guest_disk import CannotBuildGuestDisk, GuestDisk, ensure_guest_disk
from launcher.guest_disk.contents import client_version

_UNPACK_LIMIT_S: Final = 300
_RUN_LIMIT_S: Final = 120
_LOAD: Final = "import sys; sys.path.append(sys.argv[1]); import htcondor2"


def make_bundle(output: Path, *, has_condor: bool = False, force: bool = False) -> Written:
    """Write the bundle of this launcher to `output`, whole and tried out, or leave everything as it was.

    Args:
        output: A file, in a folder that is there.
        has_condor: Carry HTCondor's bindings, too.
        force: Replace a file that is there.

    Raises:
        CannotBundle: there is none; the text says why.
    """
    if carried() is not None:
        raise CannotBundle(
            "this launcher runs from a bundle: copy its archive, or make one where vmbroker is installed"
        )
    _check_output(output, force=force)
    draft = output.with_name(f".{output.name}.{secrets.token_hex(8)}.building")
    try:
        with tempfile.TemporaryDirectory(prefix="vmb-bundle-") as name:
            disk = asyncio.run(ensure_guest_disk(Path(name) / "disk"))
            written = _write(draft, disk, has_condor=has_condor)
            _check_runs(draft, Path(name) / "unpacked", has_condor=has_condor)
        rename_durably(draft, output)
    except CannotBuildGuestDisk as error:
        raise CannotBundle(str(error)) from error
    except OSError as error:
        raise CannotBundle(f"{output} cannot be made: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return written


def _top() -> str:
    return f"vmbroker-{client_version()}"


def _check_output(output: Path, *, force: bool) -> None:
    if not output.name.endswith((".tar.gz", ".tgz")) and not output.is_dir():
        raise CannotBundle(f"{output} would be a gzipped tar, whatever its name: name it .tar.gz")
    if not output.parent.is_dir():
        raise CannotBundle(f"{output.parent} is no folder: make it first")
    if output.is_dir():
        raise CannotBundle(f"{output} is a folder: name a file, as {output / f'{_top()}.tar.gz'}")
    if output.exists() and not force:
        raise CannotBundle(f"{output} is there already: name another file, or replace it with --force")
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise CannotBundle(f"{output.parent} lets this account make no file: name a file elsewhere")


def _write(draft: Path, disk: GuestDisk, *, has_condor: bool = False) -> Written:
    # The folder may be one that others write to, as /tmp: neither a file nor a link of theirs is written to.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(draft, flags, 0o666), "wb") as file:
        return write_archive(file, _top(), list_members(disk, has_condor=has_condor))


def _check_runs(archive: Path, scratch: Path, *, has_condor: bool) -> None:
    """Unpack it as a node would, and have it say its version, and load HTCondor's bindings, without any environment."""
    scratch.mkdir()
    _run(["tar", "-xzf", str(archive), "-C", str(scratch)], _UNPACK_LIMIT_S, None)
    said = _run([str(scratch / _top() / LAUNCHER), "--version"], _RUN_LIMIT_S, {})
    if client_version() not in said.split():
        raise CannotBundle(f"an unpacked copy of the bundle says {said!r} for its version, not {client_version()}")
    if has_condor:
        _check_condor(scratch / _top())


def _check_condor(top: Path) -> None:
    """Have an unpacked bundle's interpreter load the bindings."""
    told = json.loads((top / MARK).read_bytes())
    python = [str(top / told["loader"]), "--library-path", str(top / told["libraries"]), str(top / INTERPRETER)]
    _run([*python, "-I", "-S", "-c", _LOAD, str(top / SITE)], _RUN_LIMIT_S, {})


def _run(command: list[str], limit_s: float, environment: dict[str, str] | None) -> str:
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CannotBundle(f"{command[0]} did not end within {limit_s:g} s") from error
    if done.returncode != 0:
        raise CannotBundle(f"trying the bundle out, {command[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout
