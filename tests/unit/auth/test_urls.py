import pytest
from yarl import URL

from broker.auth.keys import MacKeys
from broker.auth.urls import SignedUrls
from broker.domain.errors import Rejected

KEYS = MacKeys("k", {"k": b"1" * 32})
PATH = "/v1/files/alice/a b/ü.txt"


def test_a_signed_address_opens_its_object_for_a_quarter_of_an_hour() -> None:
    now = [1_000]
    urls = SignedUrls(KEYS, "https://broker.example", lambda: now[0])
    signed = URL(urls.sign("PUT", PATH), encoded=True)

    assert signed.path == PATH
    urls.check("PUT", signed.path, signed.query)
    now[0] += 15 * 60 - 1
    urls.check("PUT", signed.path, signed.query)
    now[0] += 1
    with pytest.raises(Rejected, match="over"):
        urls.check("PUT", signed.path, signed.query)


def test_a_signed_address_opens_nothing_else() -> None:
    urls = SignedUrls(KEYS, "https://broker.example", lambda: 1_000)
    query = dict(URL(urls.sign("GET", PATH), encoded=True).query)
    changed: tuple[tuple[str, str, dict[str, str]], ...] = (
        ("PUT", PATH, query),
        ("PUT", PATH, {**query, "method": "PUT"}),
        ("GET", "/v1/files/alice/other", query),
        ("GET", PATH, {**query, "expires": "9999999999"}),
        ("GET", PATH, {**query, "key": "other"}),
        ("GET", PATH, {**query, "signature": ""}),
        ("GET", PATH, {}),
    )
    for method, path, given in changed:
        with pytest.raises(Rejected, match="does not allow"):
            urls.check(method, path, given)
