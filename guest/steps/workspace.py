"""The folders of one run: a working folder with the input, an output folder, and the features folders."""

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from guest.steps.account import Account
from guest.steps.facts import memory_bytes
from guest.steps.work import Work

CANDIDATES = (Path("/var/tmp"), Path("/tmp"))  # noqa: S108 # a fresh folder with a random name is made below


@dataclass(frozen=True, slots=True)
class Workspace:
    """Fresh folders below one root, all the program's own account's."""

    root: Path

    @classmethod
    def make(cls, candidates: tuple[Path, ...] = CANDIDATES) -> Self:
        """Make the folders where there is most room.

        Raises:
            OSError: in none of the places a folder can be made.
        """
        present = [place for place in candidates if place.is_dir()] or [Path("/")]
        roomiest = max(present, key=lambda place: shutil.disk_usage(place).free)
        workspace = cls(Path(tempfile.mkdtemp(prefix="vmbroker-", dir=roomiest)))
        # The parent is passed through by an account that is not ours; the names below it are known anyway.
        workspace.root.chmod(0o711)
        for folder in (workspace.work, workspace.output, workspace.machine_features, workspace.job_features):
            folder.mkdir(mode=0o755)
        return workspace

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def machine_features(self) -> Path:
        return self.root / "machinefeatures"

    @property
    def job_features(self) -> Path:
        return self.root / "jobfeatures"

    @property
    def secrets(self) -> Path:
        """Where the secrets' own file system is mounted; it is not made here."""
        return self.root / "secrets"

    @property
    def script(self) -> Path:
        return self.root / "script"

    @property
    def inputs(self) -> Path:
        """Where the further inputs are, each in a folder of its name: beside the working folder, which stays fresh."""
        return self.root / "inputs"

    def input_path(self, name: str) -> Path:
        """Return where the input goes: its own name, unless that would leave the folder."""
        return self.work / (name if _is_file_name(name) else "input")

    def further_path(self, input_name: str, file_name: str) -> Path:
        """Return where a further input goes, whose folder is made.

        Raises:
            ValueError: the input's name could be no folder's.
            OSError: the folder cannot be made.
        """
        if not _is_file_name(input_name):
            raise ValueError(f"{input_name!r} cannot be an input's name")
        folder = self.inputs / input_name
        folder.mkdir(parents=True, exist_ok=True)
        return folder / (file_name if _is_file_name(file_name) else "input")

    def write_features(self, work: Work) -> None:
        """Write what the field's jobs read. Source: HSF-TN-2016-02, Machine/Job Features."""
        vcpus, started_s, run_s = os.cpu_count() or 1, int(time.time()), work.run_ms // 1000
        features: dict[Path, dict[str, str | int]] = {
            self.machine_features: {"total_cpu": vcpus, "shutdowntime": started_s + run_s},
            self.job_features: {
                "allocated_cpu": vcpus,
                "job_id": work.item,
                "jobstart_secs": started_s,
                "max_rss_bytes": memory_bytes(),
                "shutdowntime_job": started_s + run_s,
                "wall_limit_secs": run_s,
            },
        }
        for folder, values in features.items():
            for key, value in values.items():
                (folder / key).write_text(str(value))

    def write_script(self, text: str) -> None:
        """Write the program that the stream sends along, if it does; beside the working folder, which stays fresh."""
        if text:
            self.script.write_text(text, encoding="utf-8")
            self.script.chmod(0o755)

    def hand_over(self, account: Account) -> None:
        """Make the script, the working and the output folder, and what is in them, the program's."""
        if account.is_current:
            return
        script = [self.script] if self.script.exists() else []
        for path in (self.work, *self.work.iterdir(), self.output, *script, *self._further()):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)

    def _further(self) -> list[Path]:
        return [self.inputs, *self.inputs.rglob("*")] if self.inputs.exists() else []

    def remove(self) -> None:
        """Remove everything; what the program made unremovable stays."""
        shutil.rmtree(self.root, ignore_errors=True)


def _is_file_name(name: str) -> bool:
    return name not in {"", ".", ".."} and "/" not in name and "\0" not in name
