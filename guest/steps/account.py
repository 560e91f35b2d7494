"""The account in the image that the program runs as."""

import os
import pwd
from dataclasses import dataclass
from typing import Self

from broker.wire.states import FailureCode
from guest.steps.failure import StepFailed


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str

    @classmethod
    def find(cls, name: str) -> Self:
        """Look the account up.

        Raises:
            StepFailed: the image has none of that name, or this client may not become it.
        """
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise StepFailed(
                FailureCode.PROGRAM_MISSING,
                f"the image has no account {name!r}, as which the stream wants its program to run",
            ) from None
        if os.geteuid() not in {0, entry.pw_uid}:
            raise StepFailed(
                FailureCode.PROGRAM_MISSING,
                f"the client does not run as root and cannot run the program as {name!r}",
            )
        groups = () if entry.pw_uid == os.geteuid() else tuple(os.getgrouplist(name, entry.pw_gid))
        return cls(name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir, entry.pw_shell)

    @property
    def is_current(self) -> bool:
        return self.uid == os.geteuid()
