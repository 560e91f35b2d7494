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
