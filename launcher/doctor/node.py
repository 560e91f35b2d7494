"""What the checks look at: the settings that a launcher would have, its account, its QEMU, a scratch folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from launcher.hypervisor.account import Account
from launcher.hypervisor.emulator import find_emulator
from launcher.hypervisor.errors import HypervisorError
from launcher.images import CacheFailed, CacheFolder
from launcher.node.scratch import ScratchError, scratch_folder
from launcher.packages import Family, read_family
from launcher.settings import Settings, SettingsError, read_settings, stand_in


class CannotTell(Exception):
    """A point depends on another one that is not fulfilled, `point`."""

    def __init__(self, what: str, point: str) -> None:
        super().__init__(f"depends on {what}, see `{point}`")
        self.point = point


@dataclass
class Node:
    """This node, as a launcher with these settings would find it.

    Attributes:
        is_for_site: whether a site's administrator asks, who has no token.
        faults: what is wrong with the settings, a line each; then the defaults stand in for all of them, and what the
            command line says rightly holds.
        failed: the points that were looked at and failed.
        has_virtiofs: whether libvirt takes shares by it, as far as that was looked at.
    """

    settings: Settings
    faults: tuple[str, ...] = ()
    is_for_site: bool = False
    failed: set[str] = field(default_factory=set)
    has_virtiofs: bool = True

    @classmethod
    def read(cls, *, is_for_site: bool, **command_line: object) -> "Node":
        """Read the settings as a launcher does."""
        try:
            return cls(read_settings(**command_line), is_for_site=is_for_site)
        except SettingsError as error:
            return cls(stand_in(error, **command_line), error.faults, is_for_site)

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
            raise CannotTell("QEMU's account", "account") from error

    @property
    def emulator(self) -> str:
        """The path of QEMU.

        Raises:
            CannotTell: there is none.
        """
        found = find_emulator()
        if found is None:
            raise CannotTell("QEMU", "programs")
        return found

    @property
    def own_cache(self) -> Path:
        """This account's own folder in the cache folder: what no digest names is neither built nor believed elsewhere.

        Raises:
            CannotTell: it cannot be made, is not this account's alone, or what `cache` found.
        """
        if "cache" in self.failed:
            raise CannotTell("the cache folder", "cache")
        folder = CacheFolder(self.settings.cache)
        try:
            folder.prepare()
        except CacheFailed as error:
            raise CannotTell("the cache folder", "cache") from error
        return folder.own

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
            raise CannotTell("the scratch folder", "scratch") from error
