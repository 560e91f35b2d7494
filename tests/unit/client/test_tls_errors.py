"""A server that speaks no TLS, and one whose certificate nobody knows, are told apart."""

import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from broker.client.errors import translated

KEY = ConnectionKey("broker.site", 8642, is_ssl=True, ssl=ssl.create_default_context(), proxy=None, proxy_auth=None,
                    proxy_headers_hash=None)  # fmt: skip


def plain() -> aiohttp.ClientError:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1000)")
    error.reason = "WRONG_VERSION_NUMBER"
    return aiohttp.ClientConnectorSSLError(KEY, error)


def unknown() -> aiohttp.ClientError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return aiohttp.ClientConnectorCertificateError(KEY, error)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (plain(), "https://broker.site does not speak TLS as we do: wrong version number; is it an http:// address?"),
        (unknown(), "the TLS certificate of https://broker.site is not accepted: self-signed certificate"),
    ],
)
def test_what_is_wrong_with_tls_is_told_in_a_sentence(error: aiohttp.ClientError, told: str) -> None:
    assert str(translated(error, URL("https://broker.site"))) == told
