"""A system's libvirtd, which is root and would give the files of vms to QEMU's account, and afterwards to root."""

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.in_use import LibvirtInUse, site_libvirt
from launcher.hypervisor.isolation import isolation
from launcher.node.scratch import scratch_folder
from launcher.node.site_libvirt import check_files
from tests.support.launching import short_folder
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="a system's libvirtd is root"),
]

START_S = 30
CONF = """\
unix_sock_dir = "{folder}/sockets"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "4:stderr"
"""
# The /dev that libvirt makes for each QEMU cannot be made where /dev/kvm is covered.
QEMU_CONF = """\
stdio_handler = "file"
security_driver = "none"
namespaces = []
"""
# In a mount namespace of its own, whose folders of the system's libvirt are below ours, and where no KVM is seen.
START = """\
set -e
for path in etc/libvirt var/lib/libvirt run/libvirt var/cache/libvirt var/log/libvirt; do
    mkdir -p "$1/$path" "/$path"
    mount --bind "$1/$path" "/$path"
done
touch "$1/no-kvm"
if [ -e /dev/kvm ]; then mount --bind "$1/no-kvm" /dev/kvm; fi
exec libvirtd -f "$1/libvirtd.conf" -p "$1/libvirtd.pid"
"""


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    with short_folder("vmb-sys-") as folder:
        (folder / "sockets").mkdir()
        (folder / "etc" / "libvirt").mkdir(parents=True)
        (folder / "etc" / "libvirt" / "qemu.conf").write_text(QEMU_CONF)
        (folder / "libvirtd.conf").write_text(CONF.format(folder=folder))
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation=private", "sh", "-c", START, "sh", str(folder)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        socket = folder / "sockets" / "libvirt-sock"
        try:
            wait_until(socket.exists, "the system's libvirtd listens", timeout_s=START_S)
            yield f"qemu+unix:///system?socket={socket}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(START_S)


@pytest.fixture
async def in_use(uri: str) -> AsyncIterator[LibvirtInUse]:
    async with site_libvirt(uri, None) as in_use:
        yield in_use


async def test_qemu_runs_as_the_launchers_choice_and_changes_no_files_owner(
    in_use: LibvirtInUse, scratch: Path
) -> None:
    assert in_use.has_dac
    assert in_use.account == Account.choose()
    with scratch_folder(scratch) as folder:
        assert await check_files(in_use, folder) is None


async def test_another_account_of_the_sites_choice_will_do(uri: str, scratch: Path) -> None:
    async with site_libvirt(uri, "nobody") as in_use:
        assert in_use.account.uid == Account.choose("nobody").uid
        with scratch_folder(scratch) as folder:
            assert await check_files(in_use, folder) is None
    facts = {fact.name: fact for fact in await isolation(Account.choose("nobody"), scratch, libvirt_uri=uri)}
    assert facts["qemu_unprivileged"].sentence == f"QEMU runs as uid {Account.choose('nobody').uid}"


async def test_a_libvirt_that_changes_the_owner_of_images_is_refused(in_use: LibvirtInUse, scratch: Path) -> None:
    with scratch_folder(scratch) as folder, pytest.raises(HypervisorError, match="set dynamic_ownership = 0"):
        await check_files(replace(in_use, has_dac=False), folder)


async def test_an_ordinary_user_is_told_to_take_another_libvirt(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HypervisorError, match="makes a vm's sockets and console as root"):
        async with site_libvirt(uri, None):
            raise AssertionError("the vm's port could not be used")
