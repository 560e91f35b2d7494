"""The authority that launcher and guests verify the broker with."""

from pathlib import Path

import pytest

from broker.client.login import Login
from launcher.authority import MAX_BYTES, NoAuthority, authority_of, read_authority
from tests.support.tls_front import make_certificate


def test_an_authority_is_read_as_it_is(tmp_path: Path) -> None:
    file = make_certificate(tmp_path, "site").certificate
    assert read_authority(file) == file.read_text()
    assert read_authority(None) is None


def test_the_one_that_is_kept_with_the_login_is_taken_where_no_file_is_named(tmp_path: Path) -> None:
    kept, named = (make_certificate(tmp_path, name).certificate for name in ("kept", "named"))
    login = Login("https://broker", "t", kept.read_text())

    assert authority_of(None, login) == kept.read_text()
    assert authority_of(named, login) == named.read_text()
    assert authority_of(None, login._replace(ca_pem=None)) is None
    with pytest.raises(NoAuthority, match=r"ca_pem\) in launcher.json is no PEM file"):
        authority_of(None, login._replace(ca_pem="no PEM"))


def test_a_whole_bundle_is_refused_because_no_guest_could_be_told_it(tmp_path: Path) -> None:
    one = make_certificate(tmp_path, "site").certificate.read_text()
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(one * (MAX_BYTES // len(one) + 1))
    with pytest.raises(NoAuthority, match=r"more than 49152 bytes: keep the one authority"):
        read_authority(bundle)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no PEM\n")
    with pytest.raises(NoAuthority, match=r"text is no PEM file of an authority"):
        read_authority(tmp_path / "text")
