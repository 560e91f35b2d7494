"""Secrets in a guest: found by its program, renewed while it runs, and gone however it ends."""

import asyncio
import base64
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from broker.wire.items import NewItem
from broker.wire.names import ItemRef, OwnedName
from broker.wire.port import Welcome
from broker.wire.problems import ProblemCode
from broker.wire.secrets import GivenSecret, PutSecret, SecretKind
from broker.wire.states import FailureCode
from broker.wire.streams import SecretUse, StreamSpec
from guest.exits import Exit
from guest.pipeline import work
from guest.steps import secrets as steps
from guest.steps.mount import CannotMount
from tests.integration.guest.edge import CURRENT_ACCOUNT, OUR_CLIENT, EdgeBroker, eventually, started_guest
from tests.integration.guest.real_broker import STREAM, real_broker
from tests.support import certificates

FIRST, SECOND = b"a proxy: the first one\n", b"a proxy: the second one\n"
TELL = (
    'env >{out}/env; stat -c "%a %U" "$VMBROKER_SECRETS" "$X509_USER_PROXY" >{out}/modes; cp "$X509_USER_PROXY" {out}/'
)


def proxy(value: bytes = FIRST, version: int = 1) -> GivenSecret:
    return GivenSecret(name="proxy", kind=SecretKind.X509_PROXY, version=version, value=value)


def program(text: str, out: Path) -> str:
    return f"sh -c '{text.replace('{out}', str(out))}'"


def folder_of(out: Path) -> Path:
    """Return where the program found its secrets."""
    told = dict(line.partition("=")[::2] for line in (out / "env").read_text().splitlines())
    assert told["X509_USER_PROXY"] == told["VMBROKER_SECRET_PROXY"] == f"{told['VMBROKER_SECRETS']}/proxy"
    return Path(told["VMBROKER_SECRETS"])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def without_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "swaps").write_text("Filename\n")
    monkeypatch.setattr(steps, "SWAPS", tmp_path / "swaps")


async def test_the_program_finds_them_and_afterwards_nobody_does(broker: EdgeBroker, tmp_path: Path, out: Path) -> None:
    broker.secrets, broker.run = [proxy()], program(TELL, out)
    async with started_guest(broker.url, tmp_path / "run") as guest:
        assert await guest.wait() == Exit.COMPLETED, guest.end.logs
    assert broker.claims[0].takes_secrets
    assert (out / "proxy").read_bytes() == FIRST
    assert [line.split()[0] for line in (out / "modes").read_text().splitlines()] == ["700", "600"]
    assert not folder_of(out).exists()
    said = "\n".join(guest.end.logs) + (tmp_path / "guest.out").read_text()
    assert FIRST.decode().strip() not in said
    assert base64.b64encode(FIRST).decode() not in said


@pytest.mark.parametrize("end", ["fails", "is stopped by the launcher", "its client is told to end", "loses its lease"])
async def test_they_are_gone_however_the_run_ends(broker: EdgeBroker, tmp_path: Path, out: Path, end: str) -> None:
    wait = f"{TELL}; : >{out}/there; exec sleep 60"
    broker.secrets, broker.run = [proxy()], program(f"{TELL}; exit 3" if end == "fails" else wait, out)
    async with started_guest(broker.url, tmp_path / "run") as guest:
        if end != "fails":
            await eventually((out / "there").exists)
            assert folder_of(out).exists()
        match end:
            case "is stopped by the launcher":
                guest.end.tell_stop(2_000)
            case "its client is told to end":
                os.kill(guest.process.pid, signal.SIGTERM)
            case "loses its lease":
                broker.extend_refusal = ProblemCode.LEASE_LOST
        expected = {
            "fails": Exit.ITEM_FAILED,
            "is stopped by the launcher": Exit.GIVEN_BACK,
            "its client is told to end": Exit.STOPPED,
            "loses its lease": Exit.LEASE_LOST,
        }[end]
        assert await guest.wait() == expected
    assert not folder_of(out).exists()


async def test_a_changed_one_reaches_a_program_that_runs(
    broker: EdgeBroker, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "REFRESH_S", 0.05)
    renew = 'until grep -q second "$X509_USER_PROXY"; do : >{out}/there; sleep 0.02; done'
    broker.secrets, broker.run = [proxy()], program(f"{renew}; {TELL}", out)
    logs: list[str] = []
    welcome = Welcome(ticket="vt1.a.dispatch.k.mac", broker=broker.url, now="", entropy=b"")
    working = asyncio.create_task(work(welcome, tmp_path / "run", "", logs.append))
    await eventually((out / "there").exists)
    broker.secrets = [proxy(SECOND, version=4)]
    assert await asyncio.wait_for(working, 30) == Exit.COMPLETED, logs
    assert (out / "proxy").read_bytes() == SECOND
    assert broker.versions[0] == {"proxy": 1}
    assert "has version 4 of the secret proxy" in logs
    assert not folder_of(out).exists()


async def test_each_transfer_asks_for_what_changed(broker: EdgeBroker, tmp_path: Path, out: Path) -> None:
    broker.secrets, broker.input_bytes = [proxy()], b"input"
    broker.run = program(f"{TELL}; cp {out}/proxy {{output}}/", out)
    broker.gates["GET"] = asyncio.Event()
    async with started_guest(broker.url, tmp_path / "run") as guest:
        await eventually(lambda: broker.transfers == ["GET"])
        broker.secrets = [proxy(SECOND, version=2)]
        broker.gates["GET"].set()
        assert await guest.wait() == Exit.COMPLETED, guest.end.logs
    assert broker.versions == [{"proxy": 1}, {"proxy": 1}]
    assert "has version 2 of the secret proxy" in guest.end.logs


async def test_where_they_cannot_be_kept_nothing_runs_and_the_item_fails_with_the_reason(
    broker: EdgeBroker, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise CannotMount("no file system in memory can be mounted: tmpfs: Operation not permitted")

    monkeypatch.setattr(steps, "mount_memory", refuse)
    (tmp_path / "swaps").write_text("Filename\n/swapfile file 1 0 -2\n")
    broker.secrets, broker.run = [proxy()], program(TELL, out)
    welcome = Welcome(ticket="vt1.a.dispatch.k.mac", broker=broker.url, now="", entropy=b"")
    logs: list[str] = []
    assert await work(welcome, tmp_path / "run", "", logs.append) == Exit.ITEM_FAILED
    assert broker.failed is not None
    assert broker.failed.code is FailureCode.SECRET_NOT_KEPT
    assert broker.failed.sentence.startswith("the secrets that the stream needs would be swapped out to a disk")
    assert list(out.iterdir()) == []


async def test_from_the_real_broker_over_tls_a_proxy_reaches_the_program(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    authority = certificates.authority()
    (tmp_path / "authority.pem").write_bytes(authority.pem)
    value = certificates.proxy(certificates.person(authority, "alice")).as_proxy_file
    client = replace(OUR_CLIENT, environment={"SSL_CERT_FILE": str(tmp_path / "authority.pem")})
    async with real_broker(tmp_path, authority, ("renci",)) as real:
        secret = PutSecret(value=value, kind=SecretKind.X509_PROXY)
        await real.researcher.put_secret(OwnedName(STREAM.user, "proxy"), secret)
        uses = (SecretUse(name="proxy"),)
        spec = StreamSpec(
            machine="m",
            run=program(f'{TELL}; cat "$X509_USER_PROXY"', out),
            as_user=CURRENT_ACCOUNT,
            secrets=uses,
            trust=("renci",),
        )
        await real.researcher.put_stream(STREAM, spec)
        [_] = [each async for each in real.researcher.push(STREAM, [NewItem()], "key")]
        dispatched = await real.dispatch()
        async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket, client=client) as guest:
            assert await guest.wait() == Exit.COMPLETED, guest.end.logs
        log = await real.researcher.log(ItemRef(STREAM, 1))
    assert (out / "proxy").read_bytes() == value
    assert log == b"[secret]"
    assert not folder_of(out).exists()
