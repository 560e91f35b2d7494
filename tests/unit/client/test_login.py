import json
import os
from pathlib import Path

import pytest

from broker.client.login import Login, NoLogin, find_launcher_login, find_login


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of a person who is logged in at http://home:8642, as researcher and as launcher."""
    folder = tmp_path / "vmbroker"
    folder.mkdir()
    for name in ("login", "launcher"):
        (folder / f"{name}.json").write_text(json.dumps({"url": "http://home:8642", "token": f"{name}-token"}))
    return {"XDG_CONFIG_HOME": str(tmp_path)}


@pytest.mark.parametrize("url", ["http://other:8642", "https://home:8642", "http://home:8643", "http://home"])
def test_a_kept_token_is_sent_to_no_other_address(environ: dict[str, str], url: str) -> None:
    environ["VMBROKER_URL"] = url

    with pytest.raises(NoLogin, match=f"there is no token for {url}: set BEARER_TOKEN_FILE"):
        find_login(environ)
    with pytest.raises(NoLogin, match=f"there is no token for {url}: set VMBROKER_LAUNCHER_TOKEN_FILE"):
        find_launcher_login(environ=environ)
    with pytest.raises(NoLogin, match="there is no token for http://third"):
        find_launcher_login("http://third", environ=environ)


def test_a_kept_token_is_used_where_it_was_made(environ: dict[str, str]) -> None:
    assert find_login(environ) == Login("http://home:8642", "login-token")
    environ["VMBROKER_URL"] = "http://HOME:8642/"
    assert find_login(environ) == Login("http://HOME:8642", "login-token")
    assert find_launcher_login("http://home:8642", environ=environ) == Login("http://home:8642", "launcher-token")


def test_a_token_that_was_given_goes_to_the_address_that_was_given(environ: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("mine\n")
    environ["VMBROKER_URL"] = "http://other"

    assert find_login({**environ, "BEARER_TOKEN": " theirs\n"}) == Login("http://other", "theirs")
    assert find_login({**environ, "BEARER_TOKEN_FILE": str(file)}) == Login("http://other", "mine")
    assert find_launcher_login(token_file=file, environ=environ) == Login("http://other", "mine")


@pytest.mark.parametrize("url", ["other:8642", "http://home:99999", "http://["])
def test_an_address_that_is_none_is_told_as_such(environ: dict[str, str], url: str) -> None:
    environ["VMBROKER_URL"] = url

    with pytest.raises(NoLogin, match="is no broker's address: write http://HOST:PORT"):
        find_login(environ)


@pytest.mark.parametrize("token", ["one\ntwo", "one two", "tokén", "a\x00b"])
def test_a_token_that_no_header_can_carry_is_refused_wherever_it_is_from(
    environ: dict[str, str], tmp_path: Path, token: str
) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    (tmp_path / "vmbroker/login.json").write_text(json.dumps({"url": "http://home:8642", "token": token}))

    for more in ({"BEARER_TOKEN": token}, {"BEARER_TOKEN_FILE": str(file)}, {}):
        with pytest.raises(NoLogin, match="a token is one line of ASCII") as told:
            find_login({**environ, **more})
        assert token not in str(told.value)


def test_a_token_lies_where_wlcg_has_it_for_a_broker_that_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    file = run / f"bt_u{os.getuid()}"
    file.write_text("theirs\n")
    file.chmod(0o600)
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(run), "VMBROKER_URL": "https://other"}

    assert find_login(environ) == Login("https://other", "theirs")
    with pytest.raises(NoLogin):
        find_login({**environ, "VMBROKER_URL": ""})
    assert find_login({**environ, "BEARER_TOKEN": "mine"}).token == "mine"
    file.chmod(0o644)
    with pytest.raises(NoLogin):
        find_login(environ)
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text("planted")
    with pytest.raises(NoLogin):
        find_login(environ)


def test_what_broker_login_kept_comes_before_a_token_of_any_service(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / f"bt_u{os.getuid()}").write_text("theirs")
    (tmp_path / f"bt_u{os.getuid()}").chmod(0o600)
    environ |= {"XDG_RUNTIME_DIR": str(tmp_path), "VMBROKER_URL": "http://home:8642"}

    assert find_login(environ).token == "login-token"


def test_a_kept_login_brings_its_authority_and_what_renews_it(tmp_path: Path) -> None:
    content = {"url": "https://home", "token": "t", "login": "vr1.x", "ca_pem": "PEM", "ends_at": "soon"}
    (tmp_path / "vmbroker").mkdir()
    (tmp_path / "vmbroker/login.json").write_text(json.dumps(content))
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}

    found = find_login(environ)
    assert (found.token, found.ca_pem) == ("t", "PEM")
    assert found.kept is not None
    assert found.kept.content.login == "vr1.x"
    named = find_login({**environ, "BEARER_TOKEN": "other", "VMBROKER_URL": "https://home"})
    assert named == Login("https://home", "other", "PEM")
    assert find_login({**environ, "BEARER_TOKEN": "other", "VMBROKER_URL": "https://away"}).ca_pem is None
