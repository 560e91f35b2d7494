"""`launcher doctor` of a node whose libvirt is the site's: it refuses what `launcher run` refuses."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.doctor.checks_vms import libvirt
from launcher.doctor.findings import Level
from launcher.doctor.node import Node
from tests.support import site_libvirt as support
from tests.support.launching import short_folder
from tests.support.site_libvirt import SiteLibvirt

pytestmark = pytest.mark.vm
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's QEMU reaches whatever the launcher does")


@pytest.fixture(scope="module")
def site() -> Iterator[SiteLibvirt]:
    with short_folder("vmb-site-") as folder, support.site_libvirt(folder / "s") as site:
        yield site


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder("vmb-doctor-") as folder:
        yield folder


async def test_a_libvirt_that_a_launcher_uses_is_good_and_leaves_nothing_behind(
    site: SiteLibvirt, folder: Path
) -> None:
    found = list(await libvirt(Node.read(is_for_site=True, libvirt_uri=site.uri, scratch=folder)))
    assert not [finding for finding in found if finding.level is Level.FAIL]
    assert list(folder.iterdir()) == []


@needs_root
async def test_a_scratch_folder_that_the_sites_qemu_cannot_reach_is_told_and_nothing_of_polkit(
    site: SiteLibvirt, folder: Path
) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (finding,) = await libvirt(Node.read(is_for_site=True, libvirt_uri=site.uri, scratch=closed))
    assert (finding.level, "may pass through" in finding.found) == (Level.FAIL, True)
    assert "polkit" not in finding.found + finding.mend


@needs_root
async def test_an_account_that_is_not_the_sites_qemus_is_told(site: SiteLibvirt, folder: Path) -> None:
    node = Node.read(is_for_site=True, libvirt_uri=site.uri, scratch=folder, account="nobody")
    (finding,) = await libvirt(node)
    assert (finding.level, "correct `account`" in finding.found) == (Level.FAIL, True)


async def test_a_libvirt_that_is_not_there_is_told_with_what_to_start(folder: Path) -> None:
    uri = f"qemu+unix:///session?socket={folder}/none"
    (finding,) = await libvirt(Node.read(is_for_site=True, libvirt_uri=uri, scratch=folder))
    assert (finding.level, "start that libvirtd" in finding.mend) == (Level.FAIL, True)
