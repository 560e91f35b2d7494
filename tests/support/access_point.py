"""Where an ordinary account submits launchers to a batch system: a bundle's own command, and a login of its own.

All that is run there comes from a bundle, as on an access point whose system has no Python for it; so it does not
matter either who may read this checkout.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import ordinary_account
from tests.support.grid import Home, Said

_LIMIT_S = 120
_BUNDLE_LIMIT_S = 240


@dataclass(frozen=True)
class Bundle:
    """A bundle with HTCondor's bindings, and the launcher of an unpacked copy, for everybody to run."""

    archive: Path
    launcher: Path

    @classmethod
    def make(cls, folder: Path, home: Home) -> "Bundle":
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
        archive = folder / "vmbroker.tar.gz"
        home.ok("launcher", "bundle", "--condor", "-o", str(archive), timeout_s=_BUNDLE_LIMIT_S)
        archive.chmod(0o644)
        unpack = ["tar", "--extract", "--gzip", f"--file={archive}", f"--directory={folder}", "--no-same-owner"]
        subprocess.run(unpack, check=True, timeout=60, umask=0o022)
        (launcher,) = folder.glob("vmbroker-*/bin/launcher")
        return cls(archive, launcher)


@dataclass(frozen=True)
class AccessPoint:
    """Runs the bundle's `launcher` as the account, `kind` being the flag of its batch system."""

    kind: str
    words: tuple[str, ...]
    bundle: Bundle
    home: Path

    def command(self, *words: str) -> list[str]:
        """Return the words of a `launcher` command as the account."""
        config, state = f"XDG_CONFIG_HOME={self.home}/config", f"XDG_STATE_HOME={self.home}/state"
        return [*self.words, config, state, "COLUMNS=160", "NO_COLOR=1", str(self.bundle.launcher), *words]

    def run(self, *words: str, timeout_s: float = _LIMIT_S) -> Said:
        """Run a command to its end, whatever its exit status."""
        command = self.command(*words)
        ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, cwd="/")
        return Said(ended.returncode, ended.stdout, ended.stderr)

    def ok(self, *words: str, timeout_s: float = _LIMIT_S) -> str:
        """Run a command that must succeed; return what it printed."""
        said = self.run(*words, timeout_s=timeout_s)
        assert said.status == 0, f"launcher {' '.join(words)} ended with {said.status}:\n{said.out}{said.err}"
        return said.out

    def submit(self, slots: int, *options: str) -> list[str]:
        """Submit launchers; return the jobs' ids."""
        said = self.ok("submit", f"--{self.kind}", "--slots", str(slots), "-o", "json", *options)
        return list(json.loads(said)["jobs"])

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Return the launcher jobs by their ids."""
        return {job["job"]: job for job in json.loads(self.ok("jobs", f"--{self.kind}", "-o", "json"))}

    def states(self, ids: list[str]) -> list[str]:
        """Return the states of jobs; `ended` for those that are told of no more."""
        known = self.jobs()
        return [known[each]["state"] if each in known else "ended" for each in ids]

    def has_ended(self, job: str) -> bool:
        """Tell whether a job has ended; not, while the batch system gives no answer."""
        said = self.run("jobs", f"--{self.kind}", "-o", "json")
        if said.status != 0:
            return False
        known = {each["job"]: each["state"] for each in json.loads(said.out)}
        return bool(known.get(job, "ended") == "ended")

    @property
    def state_folder(self) -> Path:
        return self.home / "state" / "vmbroker" / "batch"


@contextmanager
def access_point(
    kind: str, words: list[str], home: Path, bundle: Bundle, url: str, token: str
) -> Iterator[AccessPoint]:
    """Log the account in with a launcher's token for the block; its jobs are removed at the end."""
    config = ordinary_account.make_folder(home / "config")
    login = ordinary_account.make_folder(config / "vmbroker", 0o700)
    file = ordinary_account.write_file(login / "launcher.json", json.dumps({"url": url, "token": token}))
    ordinary_account.make_private(file)
    point = AccessPoint(kind, tuple(words), bundle, home)
    try:
        yield point
    finally:
        point.run("remove", f"--{kind}", "--all", "--at-once")
