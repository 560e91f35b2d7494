"""`broker login URL --institution`, against a certified OpenID provider of others and a broker that trusts it."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.grid import Broker, Home, Said, free_port
from tests.support.oidc_provider import CLIENT_ID, Providers, approve, deny, running_providers

_PROMPT = re.compile(r"open (\S+) in any browser and type (\S+)")
_COMMAND_S = 60


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Providers]:
    with running_providers(tmp_path_factory.mktemp("o")) as providers:
        yield providers


@pytest.fixture(scope="module")
def trusting(providers: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that takes one institution's word, on alice and bob."""
    broker = _broker(tmp_path_factory.mktemp("t"), providers, providers.open)
    with broker.serving():
        yield broker


@pytest.fixture(scope="module")
def trusting_three(providers: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = _broker(tmp_path_factory.mktemp("t"), providers, *providers.all())
    with broker.serving():
        yield broker


@pytest.fixture
def desk(tmp_path: Path, providers: Providers) -> Home:
    """The home of somebody who wants to log in; they have the authority's certificate in a file."""
    (tmp_path / "ca.pem").write_text(providers.authority.ca_pem)
    return Home(tmp_path)


def _broker(folder: Path, providers: Providers, *issuers: str) -> Broker:
    settings, ca = folder / "config/vmbroker/broker.toml", folder / "institutions.pem"
    settings.parent.mkdir(parents=True)
    ca.write_text(providers.authority.ca_pem)
    origins = [issuer.removeprefix("https://") for issuer in issuers]
    words = [f"outgoing_trusted = {origins!r}", f'outgoing_ca = "{ca}"']
    for issuer in issuers:
        words += ["[[issuers]]", f'issuer = "{issuer}"', 'paths = ["/alice", "/bob"]']
        words += ['user_claim = "preferred_username"', f'client_id = "{CLIENT_ID}"']
    settings.write_text("\n".join(words) + "\n")
    return Broker(Home(folder), free_port())


@dataclass
class _Login:
    """A `broker login` that waits for its person; `said` is there after the block."""

    address: str
    code: str
    said: Said | None = None

    @property
    def ended(self) -> Said:
        assert self.said is not None
        return self.said


@asynccontextmanager
async def _logging_in(desk: Home, broker: Broker, *more: str) -> AsyncIterator[_Login]:
    words = ("login", broker.url, "--institution", "--ca", str(desk.folder / "ca.pem"), *more)
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    command = await asyncio.create_subprocess_exec(
        desk.program("broker"), *words, env=desk.environment(), stdin=nothing, stdout=pipe, stderr=pipe
    )
    assert command.stderr is not None
    try:
        async with asyncio.timeout(_COMMAND_S):
            line = (await command.stderr.readline()).decode()
            prompt = _PROMPT.match(line)
            assert prompt, line + (await command.stderr.read()).decode()
            login = _Login(prompt[1], prompt[2])
            yield login
            out, err = await command.communicate()
        assert command.returncode is not None
        login.said = Said(command.returncode, out.decode(), line + err.decode())
    finally:
        if command.returncode is None:
            command.kill()
            await command.communicate()


def _failed(desk: Home, said: Said, status: int) -> str:
    """Check that a command failed by one sentence, and that nothing was kept; return the sentence."""
    *_, sentence = said.err.splitlines()
    assert said.status == status, said.err
    assert sentence.startswith("broker: ")
    assert said.err.count("broker: ") == 1
    assert not (desk.folder / "config/vmbroker/login.json").exists()
    return sentence


async def test_whoever_the_institution_names_logs_in_and_is_renewed(
    desk: Home, trusting: Broker, providers: Providers
) -> None:
    async with _logging_in(desk, trusting) as login:
        assert login.address.startswith(providers.open)
        page = await approve(providers, login.address, login.code, "alice")
        assert "success" in page.lower()

    assert login.ended.status == 0, login.ended.err
    assert "as alice" in login.ended.err
    file = desk.folder / "config/vmbroker/login.json"
    assert file.stat().st_mode & 0o777 == 0o600
    said = desk.ok("broker", "whoami")
    assert "alice" in said
    assert "renewed until" in said


async def test_who_says_no_in_the_browser_is_not_logged_in(desk: Home, trusting: Broker, providers: Providers) -> None:
    async with _logging_in(desk, trusting) as login:
        await deny(providers, login.address, login.code)

    assert "refused to log in" in _failed(desk, login.ended, 1)


async def test_whom_the_issuer_may_not_name_is_refused(desk: Home, trusting: Broker, providers: Providers) -> None:
    async with _logging_in(desk, trusting) as login:
        await approve(providers, login.address, login.code, "mallory")

    assert "may not speak for mallory" in _failed(desk, login.ended, 4)


async def test_a_code_that_nobody_used_runs_out(desk: Home, trusting_three: Broker, providers: Providers) -> None:
    async with _logging_in(desk, trusting_three, "--issuer", providers.hurried) as login:
        pass

    assert "not used in time" in _failed(desk, login.ended, 1)


def _refused(desk: Home, broker: Broker, status: int, *more: str) -> str:
    words = ("--institution", "--ca", str(desk.folder / "ca.pem"), *more)
    return _failed(desk, desk.run("broker", "login", broker.url, *words), status)


def test_an_issuer_without_device_flow_and_one_not_asked_for_are_told(
    desk: Home, trusting_three: Broker, providers: Providers
) -> None:
    closed = _refused(desk, trusting_three, 1, "--issuer", providers.closed)
    assert "ask for a one-time code" in closed
    several = _refused(desk, trusting_three, 2)
    assert "add --issuer" in several
    assert all(issuer in several for issuer in providers.all())
    assert "does not take the word of" in _refused(desk, trusting_three, 2, "--issuer", "https://other.example")


def test_an_issuer_whose_certificate_is_not_trusted_is_never_asked(desk: Home, trusting: Broker) -> None:
    said = desk.run("broker", "login", trusting.url, "--institution")

    assert "certificate" in _failed(desk, said, 1)


def test_a_broker_without_issuers_asks_for_a_code(desk: Home, broker: Broker) -> None:
    assert "takes no institution's word" in _refused(desk, broker, 2)
