import pytest

from launcher.images import mirror_folder
from launcher.settings import SettingsError, read_settings


def test_mirrors_are_servers_and_folders_in_the_order_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMBROKER_LAUNCHER_MIRRORS", "file:///cvmfs/images%20here, https://mirror.site/images")
    folder, server = read_settings().mirrors
    assert str(mirror_folder(folder)) == "/cvmfs/images here"
    assert mirror_folder(server) is None


@pytest.mark.parametrize("mirror", ["/cvmfs/images", "file://cvmfs/images", "osdf:///images", "mirror.site"])
def test_what_is_no_mirror_is_said_with_what_to_write(mirror: str) -> None:
    with pytest.raises(SettingsError, match="is no mirror: write https://HOST/FOLDER or file:///FOLDER"):
        read_settings(mirrors=[mirror])
