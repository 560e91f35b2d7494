from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli.commands import app
from broker.domain.issuers import OutsideIssuer
from broker.settings import BadSettings, Settings, load_settings
from tests.support.authority import Authority

IAM = '[[issuers]]\nissuer = "https://iam.example"\npaths = ["/alice", "/bob"]\n'


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "vmbroker"
    folder.mkdir()
    return folder / "broker.toml"


def loaded(config: Path, text: str) -> Settings:
    config.write_text(f'public_url = "https://broker.example"\n{text}')
    return load_settings({})


def test_without_issuers_none_is_trusted() -> None:
    settings = load_settings({})
    assert (settings.issuers, settings.outgoing_trusted, settings.outgoing_ca) == ((), (), None)
    assert settings.outside_issuers(8642) == ()


def test_an_issuers_tokens_are_for_the_broker_unless_it_is_told_otherwise(config: Path) -> None:
    second = (
        '[[issuers]]\nissuer = "https://login.example/realms/one/"\npaths = ["/"]\naudience = "grid"\n'
        'user_claim = "preferred_username"\nclient_id = "vmbroker"\n'
    )
    assert loaded(config, IAM + second).outside_issuers(8642) == (
        OutsideIssuer(issuer="https://iam.example", audience="https://broker.example", prefixes=(("alice",), ("bob",))),
        OutsideIssuer(
            issuer="https://login.example/realms/one/",
            audience="grid",
            prefixes=((),),
            user_claim="preferred_username",
            client_id="vmbroker",
        ),
    )


def test_without_a_public_address_the_audience_is_the_one_it_listens_at(config: Path) -> None:
    config.write_text(IAM)
    assert load_settings({}).outside_issuers(4711)[0].audience == "http://127.0.0.1:4711"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[issuers]]\nissuer = "iam.example"\npaths = ["/"]\n', "issuers.0.issuer: write the exact `iss`"),
        ('[[issuers]]\nissuer = "https://iam.example?x"\npaths = ["/"]\n', "more than host, port and path"),
        ('[[issuers]]\nissuer = "https://a@iam.example"\npaths = ["/"]\n', "more than host, port and path"),
        ('[[issuers]]\nissuer = "https://iam.example"\n', "issuers.0.paths: "),
        ('[[issuers]]\nissuer = "https://iam.example"\npaths = []\n', "issuers.0.paths: "),
        ('[[issuers]]\nissuer = "https://iam.example"\npaths = ["alice"]\n', "write /USER"),
        ('[[issuers]]\nissuer = "https://iam.example"\npaths = ["/alice/render"]\n', "write /USER"),
        ('[[issuers]]\nissuer = "https://iam.example"\npaths = ["/../bob"]\n', "write /USER"),
        ('[[issuers]]\nissuer = "https://iam.example"\npaths = ["/"]\nuser_claim = ""\n', "issuers.0.user_claim: "),
        (IAM + 'path = "/carol"\n', "issuers.0.path: there is no such setting"),
        (IAM + IAM, "https://iam.example is there twice"),
        ('[[issuers]]\nissuer = "http://iam.example:80"\npaths = ["/"]\n', "without TLS"),
        (
            'outgoing_trusted = ["i:80"]\n[[issuers]]\nissuer = "http://i"\npaths = ["/"]\nclient_id = "x"\n',
            "nobody can log in by it",
        ),
        ('issuers = "https://iam.example"\n', "better write [[issuers]] in TOML"),
        ('outgoing_trusted = ["iam.example"]\n', "names no host and port"),
        ('outgoing_ca = "/nowhere/ca.pem"\n', "/nowhere/ca.pem holds no certificates"),
    ],
)
def test_what_cannot_be_meant_is_refused(config: Path, text: str, told: str) -> None:
    with pytest.raises(BadSettings) as refused:
        loaded(config, text)
    assert told in str(refused.value)


def test_all_faults_of_issuers_are_told_at_once(config: Path) -> None:
    with pytest.raises(BadSettings) as refused:
        loaded(config, 'outgoing_trusted = ["x"]\n[[issuers]]\nissuer = "x"\n[[issuers]]\npaths = ["x"]\n')
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == [
        "issuers.0.issuer",
        "issuers.0.paths",
        "issuers.1.issuer",
        "issuers.1.paths",
        "outgoing_trusted",
    ]


def test_an_issuer_without_tls_is_taken_where_the_operator_trusts_the_way_to_it(config: Path) -> None:
    text = 'outgoing_trusted = ["iam.site:8080"]\n[[issuers]]\nissuer = "http://iam.site:8080"\npaths = ["/"]\n'
    assert loaded(config, text).outside_issuers(1)[0].issuer == "http://iam.site:8080"


def test_an_authority_is_read_when_the_settings_are(config: Path, tmp_path: Path) -> None:
    ca, none = tmp_path / "ca.pem", tmp_path / "none.pem"
    ca.write_text(Authority().ca_pem)
    none.write_text("no certificate\n")

    assert loaded(config, f'outgoing_ca = "{ca}"\n').outgoing_ca == ca
    with pytest.raises(BadSettings, match="give a PEM file"):
        loaded(config, f'outgoing_ca = "{none}"\n')


def test_the_environment_has_origins_with_commas_between_and_issuers_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMBROKER_BROKER_OUTGOING_TRUSTED", "iam.site:443, hooks.site:8080")
    monkeypatch.setenv("VMBROKER_BROKER_ISSUERS", '[{"issuer": "https://iam.site", "paths": ["/alice"]}]')
    settings = load_settings({})
    assert settings.outgoing_trusted == ("iam.site:443", "hooks.site:8080")
    assert settings.outside_issuers(1)[0].prefixes == (("alice",),)

    monkeypatch.setenv("VMBROKER_BROKER_ISSUERS", "[[[")
    with pytest.raises(BadSettings, match="JSON array"):
        load_settings({})


def test_check_config_shows_the_issuers(config: Path) -> None:
    loaded(config, IAM)
    shown = CliRunner().invoke(app, ["check-config"])
    assert shown.exit_code == 0
    assert '"issuer": "https://iam.example"' in shown.stdout
    assert "outgoing_trusted = []" in shown.stdout
