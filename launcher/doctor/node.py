"""What the checks look at: the settings that a launcher would have, its account, its QEMU, a scratch folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from launcher.doctor.packages import Family, read_family
from launcher.hypervisor.account import Account
from launcher.hypervisor.emulator import find_emulator
from launcher.hypervisor.errors import HypervisorError
from launcher.node.scratch import ScratchError, scratch_folder
from launcher.settings import Settings, SettingsError, read_settings


class CannotTell(Exception):
    """A point depends on another one that is not fulfilled; the text names it."""


@dataclass
class Node:
    """This node, as a launcher with these settings would find it.

    Attributes:
        is_for_site: whether a site's administrator asks, who has no token.
        faults: what is wrong with the settings, a line each; the defaults stand in for all of them then.
    """

    settings: Settings
    faults: tuple[str, ...] = ()
    is_for_site: bool = False

    @classmethod
    def read(cls, *, is_for_site: bool, **command_line: object) -> "Node":
        """Read the settings as a launcher does."""
        try:
            return cls(read_settings(**command_line), is_for_site=is_for_site)
        except SettingsError as error:
            return cls(Settings.model_construct(), tuple(str(error).splitlines()), is_for_site)

    @cached_property
    def family(self) -> Family | None:
        """The family of this node's distribution; None when it is none that is known."""
        return read_family()

    @property
    def account(self) -> Account:
        """Who QEMU runs as.

        Raises:
            CannotTell: nobody may.
        """
        try:
            return Account.choose(self.settings.account)
        except HypervisorError as error:
            raise CannotTell("depends on QEMU's account, see `account`") from error

    @property
    def emulator(self) -> str:
        """The path of QEMU.

        Raises:
            CannotTell: there is none.
        """
        found = find_emulator()
        if found is None:
            raise CannotTell("depends on QEMU, see `programs`")
        return found

    @property
    def cache(self) -> Path:
        """The cache folder, which must be there.

        Raises:
            CannotTell: it is not.
        """
        if not self.settings.cache.is_dir():
            raise CannotTell("depends on the cache folder, see `cache`")
        return self.settings.cache

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Hold a scratch folder as a launcher's, and remove it.

        Raises:
            CannotTell: none can be made.
        """
        try:
            with scratch_folder(self.settings.scratch) as folder:
                yield folder
        except ScratchError as error:
            raise CannotTell("depends on the scratch folder, see `scratch`") from error
