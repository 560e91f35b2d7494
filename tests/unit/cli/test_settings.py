from pathlib import Path

import pytest

from broker.settings import BadSettings, Settings, load_settings


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "vmbroker"
    folder.mkdir()
    return folder / "broker.toml"


def test_the_command_line_wins_over_the_environment_over_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text('listen = "127.0.0.1:1"\nuser = "file"\nlog_level = "error"\n')
    monkeypatch.setenv("VMBROKER_BROKER_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("VMBROKER_BROKER_USER", "environment")

    settings = load_settings({"listen": "127.0.0.1:3", "user": None})

    assert (settings.listen, settings.user, settings.log_level) == ("127.0.0.1:3", "environment", "error")


def test_all_faults_are_told_at_once(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('lisen = "127.0.0.1:1"\nuser = "no name!"\n')
    monkeypatch.setenv("VMBROKER_BROKER_DATTA", "/x")

    with pytest.raises(BadSettings) as told:
        load_settings({"listen": "nowhere", "store": "http://x"})

    lines = str(told.value).splitlines()
    assert len(lines) == 5
    for word in ("lisen: there is no such setting", "no name!", "VMBROKER_BROKER_DATTA", "HOST:PORT", "redis://"):
        assert any(word in line for line in lines), word


@pytest.mark.parametrize("listen", ["0.0.0.0:8642", "10.1.2.3:80", "[::]:80", "broker.example:443"])
def test_beyond_loopback_there_is_no_listening_without_tls(listen: str) -> None:
    with pytest.raises(BadSettings, match="without TLS"):
        load_settings({"listen": listen})


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.9.9.9:80", "[::1]:80", "localhost:80"])
def test_on_loopback_there_is(listen: str) -> None:
    assert load_settings({"listen": listen}).listen == listen


def test_a_file_that_is_no_toml_is_named(config: Path) -> None:
    config.write_text("listen = ")

    with pytest.raises(BadSettings, match=r"broker\.toml is no TOML"):
        load_settings({})


def test_a_named_file_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMBROKER_BROKER_CONFIG", "/nowhere/broker.toml")

    with pytest.raises(BadSettings, match="there is no file /nowhere"):
        load_settings({})


@pytest.mark.parametrize("url", ["https://h:0", "https://h:99999", "http://bröker.example"])
def test_the_public_url_names_a_host_that_vms_can_reach(url: str) -> None:
    with pytest.raises(BadSettings, match=f"would be reached at {url}, which names no host.*give --public-url"):
        load_settings({"public_url": url})


def test_so_does_the_address_that_is_listened_on() -> None:
    with pytest.raises(BadSettings, match=r"would be reached at http://\[::1%lo\]:8642, which names no"):
        load_settings({"listen": "[::1%lo]:8642"})


def test_settings_cannot_be_changed() -> None:
    settings: Settings = load_settings({"public_url": "https://broker.example/"})

    assert settings.url_at(1) == "https://broker.example"
    with pytest.raises(ValueError, match="frozen"):
        settings.listen = "127.0.0.1:9"
