import pytest

from broker.domain.errors import Rejected
from broker.domain.secrets import LEAST_BYTES, MAX_SECRETS, check_secret, is_trusted, trusted_label
from broker.domain.specs import spec_faults
from broker.wire.names import StreamRef, UserName
from broker.wire.secrets import PutSecret, SecretKind, variable_of
from broker.wire.states import Exchange
from broker.wire.streams import Needs, SecretUse, StreamSpec

RENDER = StreamRef(UserName("alice"), "render")
PROXY = b"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nMII\n"


def spec(*secrets: str, trust: tuple[str, ...] = ("renci",), exchange: Exchange = Exchange.NETWORK) -> StreamSpec:
    uses = tuple(SecretUse(name=name) for name in secrets)
    return StreamSpec(machine="m", run="run", secrets=uses, trust=trust, needs=Needs(exchange=exchange))


def faults(spec: StreamSpec) -> list[tuple[str, str]]:
    return [(fault.at, fault.reason) for fault in spec_faults(spec, RENDER)]


def test_a_spec_with_secrets_and_somebody_to_trust_is_good() -> None:
    assert faults(spec("proxy", "licence")) == []


def test_secrets_for_nobody_are_refused() -> None:
    assert faults(spec("proxy", trust=())) == [("trust", "the stream needs secrets and trusts nobody with them")]


def test_trust_without_secrets_is_refused() -> None:
    assert faults(spec()) == [("trust", "it says who is trusted with secrets, and the stream names none")]


@pytest.mark.parametrize("exchange", [each for each in Exchange if each is not Exchange.NETWORK])
def test_exchanges_whose_launcher_claims_carry_no_secrets(exchange: Exchange) -> None:
    (fault,) = spec_faults(spec("proxy", exchange=exchange), RENDER)
    assert fault.at == "secrets"
    assert fault.remedy.startswith("a stream that needs secrets needs exchange network")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (spec("a-b", "a.b"), "'a-b' and 'a.b' would both be VMBROKER_SECRET_A_B"),
        (spec("proxy", "proxy"), "it names a secret twice"),
        (spec(*(f"s{number}" for number in range(MAX_SECRETS + 1))), f"{MAX_SECRETS + 1} secrets are too many"),
        (spec("../x"), "'../x' is no name of a secret"),
        (spec("x", trust=("a b",)), "'a b' is no name of a label"),
        (spec("x", trust=tuple(f"l{number}" for number in range(17))), "17 labels are too many"),
    ],
)
def test_what_cannot_be_is_told(wrong: StreamSpec, said: str) -> None:
    (reason,) = [reason for _, reason in faults(wrong)]
    assert reason.startswith(said)


def test_two_proxies_cannot_both_be_announced() -> None:
    uses = tuple(SecretUse(name=name, as_kind=SecretKind.X509_PROXY) for name in ("a", "b"))
    said = faults(StreamSpec(machine="m", run="run", secrets=uses, trust=("renci",)))
    assert said == [("secrets", "2 secrets would be X509_USER_PROXY")]


def test_a_launcher_is_trusted_by_one_label_that_the_spec_names() -> None:
    wanted = spec("proxy", trust=("renci", "unl"))
    assert not is_trusted(wanted, frozenset())
    assert not is_trusted(wanted, frozenset({"renci2", "Renci"}))
    assert is_trusted(wanted, frozenset({"other", "unl"}))
    assert trusted_label(wanted, frozenset({"unl", "renci"})) == "renci"


def test_without_secrets_everybody_is_trusted() -> None:
    assert is_trusted(StreamSpec(machine="m"), frozenset())
    assert trusted_label(StreamSpec(machine="m"), frozenset({"renci"})) == ""


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (SecretKind.X509_PROXY, b"a key of another kind"),
        (SecretKind.BEARER_TOKEN, b"two words"),
        (SecretKind.BEARER_TOKEN, b"two\nlines-of-it\n"),
        (SecretKind.FILE, b"x" * (LEAST_BYTES - 1)),
        (SecretKind.FILE, b"x" * 65_537),
    ],
)
def test_what_is_none_of_its_kind_is_refused_and_not_quoted(kind: SecretKind, value: bytes) -> None:
    with pytest.raises(Rejected) as refused:
        check_secret(PutSecret(value=value, kind=kind))
    assert value.decode() not in refused.value.detail


def test_good_ones_of_each_kind_are_taken() -> None:
    for kind, value in {
        SecretKind.X509_PROXY: PROXY,
        SecretKind.BEARER_TOKEN: b"eyJhbGciOi.e30.c2ln",
        SecretKind.FILE: bytes(range(256)) * 256,
    }.items():
        check_secret(PutSecret(value=value, kind=kind))


def test_a_variable_is_named_by_capitals_digits_and_underscores() -> None:
    assert variable_of("my-licence.v2") == "VMBROKER_SECRET_MY_LICENCE_V2"
