"""What this node cannot do is told as a sentence, not as a fault of ours."""

import os
from pathlib import Path

import pytest

from launcher.hypervisor import short_names
from launcher.hypervisor.account import Account, _is_mapped
from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.hypervisor import Hypervisor


async def test_a_libvirt_that_is_of_no_use_is_refused_by_its_name() -> None:
    with pytest.raises(HypervisorError, match="test:///default cannot be used"):
        async with Hypervisor("test:///default") as hypervisor:
            await hypervisor.capabilities()


def test_a_long_folder_where_no_short_name_can_be_made_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(short_names, "SHORT_NAMES_FOLDER", tmp_path / "none")
    with (
        pytest.raises(HypervisorError, match="name a scratch folder with a shorter path"),
        short_names.short_name(tmp_path / ("x" * 60)),
    ):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's QEMU runs as that user")
def test_an_account_that_the_user_namespace_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _is_mapped("uid_map", 0)
    monkeypatch.setattr("launcher.hypervisor.account._is_mapped", lambda _table, number: number == 0)
    with pytest.raises(HypervisorError, match="root of a user namespace without nobody"):
        Account.choose("nobody")
