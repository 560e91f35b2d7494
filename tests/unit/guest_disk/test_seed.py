"""The seed as cloud-init will read it."""

import io
import subprocess
from pathlib import Path

import pycdlib
import pytest

from broker.wire.port import CREDENTIAL_NAME
from launcher.guest_disk import seed_disk
from launcher.guest_disk.seed import seed_files
from tests.support.grid import REPOSITORY

LIMIT_S = 30


TICKET = b'{"ticket":"vt1.x"}'


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    path = tmp_path / "seed.iso"
    path.write_bytes(seed_disk(TICKET))
    return path


def test_has_the_label_and_the_names_that_cloud_init_looks_for(seed: Path) -> None:
    tags = subprocess.run(["/sbin/blkid", "-p", "-o", "value", "-s", "LABEL", "-s", "TYPE", seed], capture_output=True,
                          text=True, timeout=LIMIT_S, check=True).stdout.split()  # fmt: skip
    assert tags == ["cidata", "iso9660"]
    iso = pycdlib.PyCdlib()
    iso.open(str(seed))
    for name, text in {**seed_files(), CREDENTIAL_NAME: TICKET.decode()}.items():
        for place in ({"rr_path": f"/{name}"}, {"joliet_path": f"/{name}"}):
            content = io.BytesIO()
            iso.get_file_from_iso_fp(content, **place)
            assert content.getvalue().decode() == text
    iso.close()


def test_the_ticket_is_in_no_file_that_cloud_init_reads() -> None:
    assert CREDENTIAL_NAME not in {"meta-data", "user-data", "vendor-data", "network-config"}
    assert seed_disk(TICKET).count(TICKET) == 1


def test_installs_the_stubs_own_unit_so_that_an_image_with_both_runs_one_client() -> None:
    unit = (REPOSITORY / "deploy/image/stub/vmbroker-guest.service").read_text()
    lines = [line.strip() for line in seed_files()["user-data"].splitlines()]
    start = lines.index("cat >/run/systemd/system/vmbroker-guest.service <<'END'") + 1
    assert lines[start : lines.index("END")] == unit.splitlines()


def test_its_scripts_are_shell_that_does_nothing_where_they_do_not_apply(tmp_path: Path) -> None:
    user_data = seed_files()["user-data"]
    first, _, second = user_data.partition("bootcmd:\n  - |\n")[2].partition("runcmd:\n  - |\n")
    assert first
    assert second
    for script in (first, second):
        dedented = "".join(line.removeprefix("    ") for line in script.splitlines(keepends=True))
        command = ["unshare", "-Urm", "sh", "-c", f"mount -t tmpfs none /run && PATH=/nowhere\n{dedented}\ntrue"]
        subprocess.run(["sh", "-n"], input=dedented, text=True, timeout=LIMIT_S, check=True)
        subprocess.run(command, timeout=LIMIT_S, check=True, cwd=tmp_path)
