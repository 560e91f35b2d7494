"""Accounts that a bundle's own C library does not find, asked of a node whose `getent` and `id` do."""

from pathlib import Path

import pytest

from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.getent import Found, find_account

ENTRY = "grid-qemu:*:70123:70100:QEMU for the grid:/nowhere:/sbin/nologin"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node where a directory service has one account more than /etc/passwd."""
    scripts = {
        "getent": f'case $2 in grid-qemu|70123) echo "{ENTRY}" ;; *) exit 2 ;; esac',
        "id": "[ $2 = grid-qemu ] && echo 70100 70200",
    }
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_finds_by_name_and_by_uid_what_the_nodes_own_programs_find(directory: None) -> None:
    found = Found("grid-qemu", 70_123, 70_100, (70_100, 70_200))
    assert find_account("grid-qemu") == found
    assert find_account("70123") == found
    assert find_account("nobody-else") is None


def test_finds_nothing_on_a_node_without_those_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/none")
    assert find_account("grid-qemu") is None


def test_qemu_may_run_as_an_account_of_the_directory_service(directory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert Account.choose("grid-qemu") == Account(70_123, 70_100, (70_100, 70_200))
    with pytest.raises(HypervisorError, match="70123 does not exist on this node"):
        Account.choose("70123")
