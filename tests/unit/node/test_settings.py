import os
import pwd
from pathlib import Path

import pytest

from launcher.settings import SettingsError, read_settings


def test_the_command_line_comes_before_the_environment_and_that_before_the_sites_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = tmp_path / "site.toml"
    site.write_text('vms = 1\nvcpus = 1\nmemory_mib = 1\ntrusted_origins = ["mirror.site:80"]\n')
    monkeypatch.setenv("VMBROKER_SITE", str(site))
    monkeypatch.setenv("VMBROKER_LAUNCHER_VMS", "2")
    monkeypatch.setenv("VMBROKER_LAUNCHER_VCPUS", "2")
    settings = read_settings(vms=3, vcpus=None)
    assert (settings.vms, settings.vcpus, settings.memory_mib) == (3, 2, 1)
    assert settings.trusted_origins == ("mirror.site:80",)


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMBROKER_LAUNCHER_TRUSTED_ORIGINS", "mirror.site:80, nonsense")
    with pytest.raises(SettingsError) as caught:
        read_settings(vms=0)
    assert "vms: " in str(caught.value)
    assert "'nonsense' names no host and port" in str(caught.value)


@pytest.mark.parametrize("line", ["vmz = 1", "= nothing"])
def test_a_sites_file_that_is_wrong_is_named(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(f"{line}\n")
    monkeypatch.setenv("VMBROKER_SITE", str(site))
    with pytest.raises(SettingsError, match=r"vmz|site\.toml"):
        read_settings()


def test_a_setting_that_does_not_exist_is_refused_in_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMBROKER_LAUNCHER_VMZ", "1")
    with pytest.raises(SettingsError, match="VMBROKER_LAUNCHER_VMZ"):
        read_settings()


def test_an_open_network_goes_with_a_libvirt_of_the_sites_alone() -> None:
    with pytest.raises(SettingsError, match=r"goes with a libvirt_uri.*leave network out, or name the site's libvirt"):
        read_settings(network="open")
    assert read_settings(network="open", libvirt_uri="qemu:///system").network == "open"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CACHE", "images"),
        ("SCRATCH", "~/scratch"),
        ("TOKEN_FILE", "token"),
        ("CA_FILE", "./ca.pem"),
        ("LIBVIRT_URI", "test:///default"),
        ("LIBVIRT_URI", "qemu+ssh://node/system"),
        ("USERS", "alice, b b"),
        ("LABELS", "rack=12"),
    ],
)
def test_what_no_launcher_could_use_is_refused_with_its_source(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"VMBROKER_LAUNCHER_{name}", value)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    (fault,) = caught.value.faults
    assert fault.startswith(f"the environment: {name.lower()}: ")


def test_relative_paths_on_the_command_line_are_completed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings(cache=Path("images")).cache == tmp_path / "images"


def test_a_misspelt_setting_is_told_with_its_file_and_the_nearest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = tmp_path / "site.toml"
    site.write_text('user = ["alice"]\nvms = 0\n')
    monkeypatch.setenv("VMBROKER_SITE", str(site))
    with pytest.raises(SettingsError) as caught:
        read_settings(vcpus=0)
    told = sorted(fault.partition(": ")[0] for fault in caught.value.faults)
    assert told == sorted(["the command line", str(site), str(site)])
    assert f"{site}: `user` is no setting; `users`?" in caught.value.faults


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account for a moment")
@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_sites_file_that_the_account_cannot_read_is_named(
    closed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = tmp_path / "etc" / "site.toml"
    site.parent.mkdir()
    site.write_text("vms = 1\n")
    (site if closed == "file" else site.parent).chmod(0o600)
    monkeypatch.setenv("VMBROKER_SITE", str(site))
    os.seteuid(65534)
    try:
        with pytest.raises(
            SettingsError, match=f"VMBROKER_SITE names {site}, which this account cannot read: chmod 644"
        ):
            read_settings(cache=tmp_path)
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account for a moment")
def test_an_account_without_a_home_is_told_to_name_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", _nobody_known)
    os.seteuid(54_321)
    try:
        with pytest.raises(SettingsError, match="set HOME, or name one with --cache"):
            read_settings()
        assert read_settings(cache=tmp_path).cache == tmp_path
    finally:
        os.seteuid(0)


def _nobody_known(uid: int) -> pwd.struct_passwd:
    raise KeyError(uid)
