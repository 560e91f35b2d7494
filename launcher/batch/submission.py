"""The folder of a submission: its script, its credential, its logs, and a record of what was asked for.

One folder for each `launcher submit`, one for each provisioner, below a folder of this account's. Everything in it is
this account's alone. The credential is a file there, 0600, and nowhere else: HTCondor brings it to the node with the
job's other files, encrypted; with Slurm and PBS the folder is on a file system that the nodes share. It is removed when
the last of the jobs has ended.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from broker.client.login import Login
from broker.wire.jobs import BatchKind
from launcher.batch.errors import Refused
from launcher.batch.order import MAX_RUNTIME_S, check_place
from launcher.durable import write_durably

log = structlog.get_logger()

TAG: Final = re.compile(r"vmb-[0-9a-f]{8}")
"""Short enough for the name of a job in every PBS: 15 characters."""
_RECORD: Final = "record.json"
_UNPACK_LIMIT_S: Final = 600
_FORGET_AFTER_S: Final = 14 * 86_400
_LOG_KEEP_S: Final = MAX_RUNTIME_S + 86_400
_BUNDLES: Final = "bundles"


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a submission was; `ended_s` since when none of its jobs is there any more."""

    kind: BatchKind
    broker: str
    made_s: int
    slots: int = 0
    users: tuple[str, ...] = ()
    is_provisioner: bool = False
    place: str = ""
    """Where the jobs were queued, as the batch system calls it; empty while it is not known."""
    ended_s: int | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """One folder, known by its tag, which is also in the names of its jobs and launchers."""

    folder: Path

    @property
    def tag(self) -> str:
        return self.folder.name

    @property
    def token(self) -> Path:
        return self.folder / "token"

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def logs(self) -> Path:
        return self.folder / "log"

    def record(self) -> Record:
        """Return what it was.

        Raises:
            OSError, msgspec.DecodeError: it cannot be read.
        """
        return msgspec.json.decode((self.folder / _RECORD).read_bytes(), type=Record)

    def write_record(self, record: Record) -> None:
        """Keep the record, whole or not at all."""
        write_durably(self.folder / _RECORD, json.dumps(msgspec.to_builtins(record), indent=2).encode() + b"\n")

    def write_credential(self, login: Login, ca_pem: str | None) -> None:
        """Write the launchers' token and their broker's authority anew."""
        write_durably(self.token, login.token.encode() + b"\n", mode=0o600)
        if ca_pem is None:
            self.authority.unlink(missing_ok=True)
        else:
            write_durably(self.authority, ca_pem.encode(), mode=0o600)

    def write_script(self, text: str) -> Path:
        """Keep a script that jobs run, beside those of other orders; return where it is."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        path = self.folder / f"job-{digest[:12]}.sh"
        if path.exists():
            # It is in use again: `prune` goes by its age.
            path.touch()
        else:
            write_durably(path, text.encode(), mode=0o700)
        return path

    def link_launcher(self, launcher: Path) -> None:
        """Show jobs that see this folder where the launcher of their bundle is."""
        draft = self.folder / f".launcher.{secrets.token_hex(4)}"
        draft.symlink_to(launcher)
        draft.replace(self.folder / "launcher")

    def prune(self, now_s: float) -> None:
        """Remove logs and scripts that were not used for so long that none of their jobs can be there any more."""
        old = (*self.folder.glob("events-*.log"), *self.folder.glob("job-*.sh"), *self.logs.glob("*"))
        for path in old:
            with contextlib.suppress(OSError):
                if now_s - path.stat().st_mtime > _LOG_KEEP_S:
                    path.unlink()

    def end(self, now_s: int) -> None:
        """Note that none of its jobs is there any more, and remove its credential."""
        # Drafts too: a writer that was killed may have left one.
        for path in (self.token, *self.folder.glob(f".{self.token.name}.*")):
            path.unlink(missing_ok=True)
        record = self.record()
        if record.ended_s is None:
            self.write_record(msgspec.structs.replace(record, ended_s=now_s))


def default_root(environ: dict[str, str] | None = None) -> Path:
    """Return where submissions are kept by default: `vmbroker/batch` in the account's folder of state.

    Raises:
        Refused: nobody tells where this account's home is.
    """
    around = os.environ if environ is None else environ
    try:
        state = around.get("XDG_STATE_HOME") or Path(around.get("HOME") or Path.home()) / ".local" / "state"
    except RuntimeError as error:
        raise Refused("this account has no home folder to keep submissions in: name one with --folder") from error
    return Path(state).absolute() / "vmbroker" / "batch"


class Submissions:
    """Every submission of this account below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def make(self, record: Record, tag: str | None = None) -> Submission:
        """Make a submission's folder, under a tag of its own if none is named.

        Raises:
            Refused: no folder can be made here.
        """
        check_place(self.root)
        submission = Submission(self.root / (tag or f"vmb-{secrets.token_hex(4)}"))
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_own(self.root)
            submission.folder.mkdir(mode=0o700, exist_ok=tag is not None)
            check_own(submission.folder)
            submission.logs.mkdir(mode=0o700, exist_ok=True)
            submission.write_record(record)
        except OSError as error:
            raise Refused(
                f"{submission.folder} cannot be made: {error.strerror}; name another folder with --folder, on a file "
                "system that the nodes share for Slurm and PBS"
            ) from error
        return submission

    def __iter__(self) -> Iterator[Submission]:
        """Go through those that can be read, the oldest first."""
        found: list[tuple[int, Submission]] = []
        for folder in self.root.glob("vmb-*"):
            if not TAG.fullmatch(folder.name):
                continue
            submission = Submission(folder)
            try:
                check_own(folder)
                found.append((submission.record().made_s, submission))
            except (OSError, msgspec.DecodeError, Refused) as error:
                log.warning("submission_passed_over", folder=str(folder), reason=str(error))
        yield from (submission for _, submission in sorted(found, key=lambda pair: (pair[0], pair[1].tag)))

    def of(self, tag: str) -> Submission:
        """Return the submission of a tag, be its folder there or not."""
        return Submission(self.root / tag)

    def forget_old(self, now_s: float | None = None) -> None:
        """Remove the folders of submissions that ended two weeks ago, and unpacked bundles that none has any more."""
        now_s = time.time() if now_s is None else now_s
        for submission in self:
            ended_s = submission.record().ended_s
            if ended_s is not None and now_s - ended_s > _FORGET_AFTER_S:
                shutil.rmtree(submission.folder, ignore_errors=True)
        used = {link.resolve() for link in self.root.glob("vmb-*/launcher")}
        for home in self.root.glob(f"{_BUNDLES}/[0-9a-f]*"):
            is_used = any(home.resolve() in path.parents for path in used)
            if not is_used and now_s - home.stat().st_mtime > _FORGET_AFTER_S:
                shutil.rmtree(home, ignore_errors=True)

    def unpack(self, bundle: Path, digest: str) -> Path:
        """Return the launcher of a bundle that is unpacked here, once for all submissions that travel with it.

        Args:
            bundle: the archive.
            digest: of its bytes.

        Raises:
            Refused: it is no bundle, or there is no room for it.
        """
        home = self.root / _BUNDLES / digest[:16]
        if not home.is_dir():
            home.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            check_own(home.parent)
            _unpack(bundle, home)
        check_own(home)
        launchers = sorted(home.glob("vmbroker-*/bin/launcher"))
        if len(launchers) != 1:
            raise Refused(f"{bundle} is no bundle of a launcher: make one by `launcher bundle -o FILE`")
        return launchers[0]


def check_own(folder: Path) -> None:
    """Refuse a folder in which others could put a program or a record of theirs.

    Raises:
        Refused: it is not this account's alone to write to.
        OSError: it cannot be looked at.
    """
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise Refused(
            f"{folder} is not a folder that this account alone may write to, and holds programs and a credential: name "
            "another --folder, or mend it (chmod go-w)"
        )


def _unpack(bundle: Path, home: Path) -> None:
    draft = home.with_name(f".{home.name}.{secrets.token_hex(4)}")
    try:
        draft.mkdir(mode=0o755, parents=True)
        # By the system's tar: 190 MiB in 4,000 files, onto a network file system at times.
        words = ["tar", "--extract", "--gzip", f"--file={bundle}", f"--directory={draft}", "--no-same-owner"]
        subprocess.run(words, check=True, capture_output=True, timeout=_UNPACK_LIMIT_S, umask=0o022)
        draft.rename(home)
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or str(error).encode()
        if not home.is_dir():
            raise Refused(
                f"{bundle} cannot be unpacked in {home.parent}: {told.decode(errors='replace')[-300:]}"
            ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_bundle(bundle: Path) -> None:
    """Refuse an archive that is plainly no bundle, by its first member.

    Raises:
        Refused: it is not one.
    """
    try:
        with tarfile.open(bundle, "r:gz") as archive:
            first = archive.next()
    except (OSError, tarfile.TarError, EOFError) as error:
        raise Refused(f"{bundle} cannot be read as a bundle: {error}") from error
    if first is None or not first.name.startswith("vmbroker-"):
        raise Refused(f"{bundle} is no bundle of a launcher: make one by `launcher bundle -o FILE`")
