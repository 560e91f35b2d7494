"""HTCondor's own curl_plugin, as the guest runs it, against an FTP server."""

import hashlib
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from broker.client.errors import Unreachable
from broker.wire.leases import ClaimAnswer, LeaseLimits, SignedUrl
from guest.steps.plugins import Plugins
from guest.steps.secrets import Secrets
from tests.support.ftp_servers import ftp
from tests.support.grid import REPOSITORY

pytestmark = [pytest.mark.grid]


@pytest.fixture(scope="module")
def curl_plugin() -> str:
    command = [str(REPOSITORY / "deploy/image/build"), "htcondor", "--print-path"]
    tree = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600, check=True).stdout.strip()
    return f"{tree}/libexec/curl_plugin"


async def test_brings_an_input_takes_an_output_and_tells_why_not(curl_plugin: str, tmp_path: Path) -> None:
    claimed = ClaimAnswer(
        item="alice/render/1",
        fence=1,
        lease="",
        run="",
        as_user=pwd.getpwuid(os.geteuid()).pw_name,
        output_files=["*"],
        limits=LeaseLimits(heartbeat_ms=1000, lease_ms=60_000, run_ms=60_000, output_mib=1),
        plugins={"ftp": curl_plugin},
    )
    plugins = Plugins(claimed, Secrets((), lambda _: None), None)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "in").write_bytes(bytes(range(256)) * 1000)

    with ftp(tmp_path / "store") as url:
        fetched = await plugins.fetch(SignedUrl(url=f"{url}/in", target=f"{url}/in"), tmp_path / "arrived")
        await plugins.put(SignedUrl(url=f"{url}/out", target=f"{url}/out"), fetched.path)
        with pytest.raises(Unreachable, match=r"curl_plugin exited with status 1: The file does not exist"):
            await plugins.fetch(SignedUrl(url=f"{url}/none", target=f"{url}/none"), tmp_path / "none")

    sent = (tmp_path / "store" / "out").read_bytes()
    assert fetched.path.read_bytes() == sent == (tmp_path / "store" / "in").read_bytes()
    assert (fetched.size_bytes, fetched.digest) == (256_000, f"sha256:{hashlib.sha256(sent).hexdigest()}")
