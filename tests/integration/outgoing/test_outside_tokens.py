"""Tokens of an outside issuer, whose keys come from it by the guarded client."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import scitokens
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc.jwk import ECKey, KeySet, RSAKey

from broker.client.judging import resolve_by_system
from broker.client.outgoing import OutgoingClient
from broker.domain.errors import Rejected, Unavailable
from broker.domain.issuers import OutsideIssuer
from broker.outside.discovery import Description, NotDiscovered, describe, fetch_keys
from broker.outside.keys import ASK_AGAIN_S, FRESH_S, KEPT_S, RETRY_S, IssuerKeys
from broker.outside.tokens import REMEMBERED_S, OutsideTokens
from broker.wire.problems import ProblemCode
from tests.support.authority import Authority
from tests.support.issuer import CONFIGURATION, KEYS, SERVER, Issuer, running_issuer

BROKER, CLIENT = "https://broker.example", "vmbroker-client"


class Bench:
    """An issuer, what the broker has to verify its tokens, and clocks that a test moves on."""

    def __init__(self, issuer: Issuer, client: OutgoingClient) -> None:
        self.issuer = issuer
        self.client = client
        self.passed_s = 0.0
        trusted = OutsideIssuer(issuer=issuer.url, audience=BROKER, prefixes=(("alice",),), client_id=CLIENT)
        self.keys = IssuerKeys([issuer.url], client, lambda: time.monotonic() + self.passed_s)
        self.tokens = OutsideTokens([trusted], self.keys, lambda: int(time.time() + self.passed_s))

    def token(self, **claims: Any) -> str:
        return self.issuer.sign(**{"aud": BROKER, "sub": "alice", "scope": "queue.submit:/alice", **claims})

    def later_token(self) -> str:
        now_s = int(time.time() + self.passed_s)
        return self.token(nbf=now_s, iat=now_s, exp=now_s + 600)

    async def subject_of(self, token: str) -> str:
        return (await self.tokens.verify(token)).subject


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def bench(authority: Authority, tmp_path: Path) -> AsyncIterator[Bench]:
    async with (
        running_issuer(authority, tmp_path) as issuer,
        OutgoingClient([issuer.origin], authority.ca_pem) as client,
    ):
        yield Bench(issuer, client)


async def test_a_token_is_verified_by_the_keys_that_its_issuer_publishes(bench: Bench) -> None:
    principal = await bench.tokens.verify(bench.token(scope="queue.submit queue.admin queue.read:/carol"))

    assert principal.subject == "alice"
    assert str(principal.scopes) == "queue.submit:/alice"


@pytest.mark.parametrize("kind", ["RS256", "ES256"])
async def test_what_the_scitokens_library_issues_is_taken(bench: Bench, kind: str) -> None:
    if kind == "RS256":
        private: Any = rsa.generate_private_key(65537, 2048)
        bench.issuer.published = KeySet([RSAKey.import_key(private, {"kid": "theirs"})])
    else:
        private = ec.generate_private_key(ec.SECP256R1())
        bench.issuer.published = KeySet([ECKey.import_key(private, {"kid": "theirs"})])
    made = scitokens.SciToken(key=private, key_id="theirs")
    made.update_claims({"scope": "queue.submit:/alice/render", "aud": BROKER, "sub": "alice"})

    principal = await bench.tokens.verify(made.serialize(issuer=bench.issuer.url).decode())

    assert str(principal.scopes) == "queue.submit:/alice/render"


async def test_a_token_of_an_unknown_issuer_is_refused_before_anything_is_fetched(bench: Bench) -> None:
    stranger = Issuer("https://stranger.example")
    for token in (stranger.sign(aud=BROKER, sub="alice"), bench.token(iss=f"{bench.issuer.url}/"), "a.b.c", ""):
        assert not bench.tokens.knows(token)
        with pytest.raises(Rejected, match="none that this broker trusts") as refused:
            await bench.tokens.verify(token)
        assert refused.value.code is ProblemCode.UNAUTHENTICATED
    with pytest.raises(Rejected):
        await bench.keys.keys("https://stranger.example", None)

    assert bench.tokens.knows(bench.token())
    assert not bench.issuer.asked


async def test_a_forged_token_of_a_known_issuer_is_refused(bench: Bench) -> None:
    forger = Issuer(bench.issuer.url)
    with pytest.raises(Rejected):
        await bench.tokens.verify(forger.sign(aud=BROKER, sub="alice"))
    for claims in ({"aud": "https://other.example"}, {"exp": int(time.time())}, {"sub": "carol"}):
        with pytest.raises(Rejected):
            await bench.tokens.verify(bench.token(**claims))


async def test_many_who_come_at_once_make_one_request(bench: Bench) -> None:
    tokens = [bench.token(jti=str(number)) for number in range(20)]

    assert await asyncio.gather(*map(bench.subject_of, tokens)) == ["alice"] * 20
    assert bench.issuer.asked == {CONFIGURATION: 1, KEYS: 1}


async def test_many_who_come_while_the_issuer_is_away_make_one_request(bench: Bench) -> None:
    bench.issuer.answers[CONFIGURATION] = 503
    tokens = [bench.token(jti=str(number)) for number in range(20)]

    found = await asyncio.gather(*map(bench.subject_of, tokens), return_exceptions=True)

    assert all(isinstance(error, Unavailable) for error in found)
    assert bench.issuer.asked == {CONFIGURATION: 1}


async def test_whoever_gives_up_waiting_takes_nothing_from_the_others(bench: Bench) -> None:
    first, second = (asyncio.create_task(bench.subject_of(bench.token(jti=jti))) for jti in "12")
    await asyncio.sleep(0)
    first.cancel()

    assert await second == "alice"


async def test_keys_are_fresh_for_an_hour(bench: Bench) -> None:
    await bench.subject_of(bench.token())
    bench.passed_s = FRESH_S - 10
    await bench.subject_of(bench.later_token())
    assert bench.issuer.asked[KEYS] == 1

    bench.passed_s = FRESH_S
    await bench.subject_of(bench.later_token())
    assert bench.issuer.asked[KEYS] == 2


async def test_a_new_key_is_asked_for_at_once_but_once_a_minute(bench: Bench) -> None:
    await bench.subject_of(bench.token())
    bench.passed_s = ASK_AGAIN_S
    bench.issuer.change_key("second")
    assert await bench.subject_of(bench.later_token()) == "alice"
    assert bench.issuer.asked[KEYS] == 2

    for number in range(5):
        bench.issuer.key = ECKey.generate_key("P-256", {"kid": f"invented-{number}"})
        with pytest.raises(Rejected, match="no such key"):
            await bench.subject_of(bench.later_token())
    assert bench.issuer.asked[KEYS] == 2

    bench.issuer.change_key("third")
    bench.passed_s += ASK_AGAIN_S
    assert await bench.subject_of(bench.later_token()) == "alice"


async def test_a_key_that_its_issuer_withdrew_is_good_for_an_hour_at_most(bench: Bench) -> None:
    stolen = bench.issuer.key
    await bench.subject_of(bench.token())
    bench.issuer.change_key("second")
    bench.issuer.published = KeySet([bench.issuer.key])
    bench.passed_s = FRESH_S
    bench.issuer.key = stolen

    with pytest.raises(Rejected, match="no such key"):
        await bench.subject_of(bench.later_token())


async def test_while_the_issuer_is_away_its_old_keys_are_good_for_a_day(bench: Bench) -> None:
    await bench.subject_of(bench.token())
    bench.issuer.answers[CONFIGURATION] = 503

    bench.passed_s = KEPT_S - 10
    assert await bench.subject_of(bench.later_token()) == "alice"
    bench.passed_s = KEPT_S + RETRY_S
    with pytest.raises(Unavailable, match="cannot be had now") as unavailable:
        await bench.subject_of(bench.later_token())
    assert unavailable.value.code is ProblemCode.ISSUER_UNAVAILABLE
    assert unavailable.value.retry_after_s == RETRY_S

    del bench.issuer.answers[CONFIGURATION]
    bench.passed_s += RETRY_S
    assert await bench.subject_of(bench.later_token()) == "alice"


async def test_an_issuer_that_cannot_be_reached_is_unavailable(authority: Authority, tmp_path: Path) -> None:
    async with running_issuer(authority, tmp_path) as issuer:
        gone = issuer
    async with OutgoingClient([gone.origin], authority.ca_pem) as client:
        bench = Bench(gone, client)
        with pytest.raises(Unavailable):
            await bench.subject_of(bench.token())


async def test_an_issuer_whose_certificate_nobody_knows_is_unavailable(bench: Bench) -> None:
    async with OutgoingClient([bench.issuer.origin]) as client:
        with pytest.raises(NotDiscovered, match="certificate"):
            await fetch_keys(client, bench.issuer.url)


async def test_an_issuer_that_the_operator_did_not_trust_to_be_here_is_not_asked(
    bench: Bench, authority: Authority
) -> None:
    async with OutgoingClient(ca_pem=authority.ca_pem, resolve=resolve_by_system) as client:
        with pytest.raises(NotDiscovered, match="loopback"):
            await fetch_keys(client, bench.issuer.url)
    assert not bench.issuer.asked


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"issuer": "https://another.example"}, "describes another issuer"),
        ({"issuer": 7}, "describes no issuer"),
        ({"jwks_uri": None}, "describes no issuer"),
        ({"jwks_uri": "https://169.254.169.254/latest/meta-data"}, "link-local"),
        ({"jwks_uri": "https://[fd00:ec2::254]/"}, "private"),
        ({"jwks_uri": "https://127.0.0.1:6379/"}, "loopback"),
        ({"jwks_uri": "http://keys.example/"}, "without TLS"),
        ({"jwks_uri": "file:///etc/passwd"}, "no http or https address"),
        ({"jwks_uri": "keys"}, "no http or https address"),
    ],
)
async def test_a_description_is_believed_in_part_only(bench: Bench, changed: dict[str, Any], reason: str) -> None:
    bench.issuer.answers[CONFIGURATION] = {**bench.issuer.description, **changed}

    with pytest.raises(NotDiscovered, match=reason):
        await fetch_keys(bench.client, bench.issuer.url)
    with pytest.raises(Unavailable) as unavailable:
        await bench.subject_of(bench.token())
    assert "169.254" not in str(unavailable.value)


@pytest.mark.parametrize("answer", [500, 404, {"keys": []}, {"keys": [{"kty": "oct", "k": "eA"}]}, {}])
async def test_keys_that_are_none_leave_the_old_ones(bench: Bench, answer: int | dict[str, Any]) -> None:
    await bench.subject_of(bench.token())
    bench.issuer.answers[KEYS] = answer
    bench.passed_s = FRESH_S

    assert await bench.subject_of(bench.later_token()) == "alice"
    with pytest.raises(NotDiscovered):
        await fetch_keys(bench.client, bench.issuer.url)


async def test_a_description_that_is_too_long_is_not_read(bench: Bench) -> None:
    bench.issuer.answers[CONFIGURATION] = {**bench.issuer.description, "x": "x" * 300_000}
    with pytest.raises(NotDiscovered, match="more than 262144 bytes"):
        await describe(bench.client, bench.issuer.url)


async def test_an_issuer_may_describe_itself_as_an_authorization_server(bench: Bench) -> None:
    bench.issuer.answers |= {CONFIGURATION: 404, SERVER: bench.issuer.description}
    assert await bench.subject_of(bench.token()) == "alice"


async def test_an_issuer_below_a_path_is_found_in_each_of_the_usual_places(bench: Bench) -> None:
    name = f"{bench.issuer.url}/realms/one"
    description = {
        **bench.issuer.description,
        "issuer": name,
        "token_endpoint": f"{name}/token",
        "device_authorization_endpoint": f"{name}/device",
    }
    places = (f"/realms/one{CONFIGURATION}", f"{SERVER}/realms/one", f"/realms/one{SERVER}")
    for place in places:
        bench.issuer.answers = {place: description}
        found = await describe(bench.client, name)
        assert found == Description(name, f"{bench.issuer.url}{KEYS}", f"{name}/token", f"{name}/device")
    bench.issuer.answers = {}
    with pytest.raises(NotDiscovered, match="neither"):
        await describe(bench.client, name)


async def test_the_name_of_an_issuer_may_end_with_a_slash(bench: Bench) -> None:
    name = f"{bench.issuer.url}/"
    bench.issuer.answers[CONFIGURATION] = {**bench.issuer.description, "issuer": name}
    assert (await describe(bench.client, name)).issuer == name


async def test_a_verified_token_is_remembered_for_minutes_and_never_beyond_its_end(bench: Bench) -> None:
    lasting, ending = bench.token(), bench.token(exp=int(time.time()) + 60)
    await bench.subject_of(lasting)
    await bench.subject_of(ending)
    # Nothing that they publish would verify them now.
    bench.issuer.published = KeySet([ECKey.generate_key("P-256", {"kid": "first"})])
    bench.keys._kept[bench.issuer.url].keys = bench.issuer.published

    bench.passed_s = 61
    assert await bench.subject_of(lasting) == "alice"
    with pytest.raises(Rejected):
        await bench.subject_of(ending)
    bench.passed_s = REMEMBERED_S + 1
    with pytest.raises(Rejected):
        await bench.subject_of(lasting)


async def test_an_id_token_proves_a_login(bench: Bench) -> None:
    id_token = bench.issuer.sign(aud=CLIENT, sub="alice")
    assert await bench.tokens.verify_identity(bench.issuer.url, id_token) == "alice"

    for wrong in (bench.token(), bench.issuer.sign(aud=CLIENT, sub="carol"), "a.b.c"):
        with pytest.raises(Rejected):
            await bench.tokens.verify_identity(bench.issuer.url, wrong)
    with pytest.raises(Rejected, match=r"it is not of https://another\.example, which was asked"):
        await bench.tokens.verify_identity("https://another.example", id_token)
    with pytest.raises(Rejected):
        await bench.tokens.verify(id_token)
