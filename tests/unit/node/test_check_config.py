"""`launcher check-config`: what holds, as a site's file has it, and what is wrong."""

import tomllib
from pathlib import Path

import pytest

from launcher.check_config import check_config


def test_what_holds_is_a_sites_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VMBROKER_LAUNCHER_LABELS", '{"rack \\"a\\"": "12"}')
    monkeypatch.setenv("VMBROKER_LAUNCHER_USERS", "alice, bob")
    monkeypatch.setenv("VMBROKER_LAUNCHER_END", "2100-01-01T00:00:00Z")
    check_config()
    shown = capsys.readouterr().out
    site = tmp_path / "site.toml"
    site.write_text(shown)
    said = tomllib.loads(shown)
    assert (said["users"], said["labels"], "contact" in said) == (["alice", "bob"], {'rack "a"': "12"}, False)
    for name in ("LABELS", "USERS", "END"):
        monkeypatch.delenv(f"VMBROKER_LAUNCHER_{name}")
    monkeypatch.setenv("VMBROKER_SITE", str(site))
    check_config()
    assert tomllib.loads(capsys.readouterr().out) == said


def test_what_the_settings_name_and_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VMBROKER_LAUNCHER_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("VMBROKER_LAUNCHER_CA_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1000000000")
    with pytest.raises(SystemExit) as ended:
        check_config()
    told = [line.split(": ")[:2] for line in capsys.readouterr().err.splitlines()]
    assert (ended.value.code, told) == (2, [["launcher", name] for name in ("token_file", "ca_file", "end")])
