import pytest

from broker.client.origins import Origin, why_refused


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Share.Example/a/b?c", Origin("share.example", 443)),
        ("http://share.example.:8080", Origin("share.example", 8080)),
        ("share.example:22", Origin("share.example", 22)),
        ("http://[2001:DB8::1]/", Origin("2001:db8::1", 80)),
        ("[::1]:8080", Origin("::1", 8080)),
    ],
)
def test_an_origin_is_read_from_a_url_or_from_host_and_port(text: str, origin: Origin) -> None:
    assert Origin.parse(text) == origin


@pytest.mark.parametrize("text", ["share.example", "https://", "ftp://share.example/", "host:99999", "a" * 254 + ":80"])
def test_an_origin_without_host_and_port_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|[Pp]ort"):
        Origin.parse(text)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "a loopback address"),
        ("127.8.9.10", "a loopback address"),
        ("::1", "a loopback address"),
        ("::ffff:127.0.0.1", "a loopback address"),
        ("64:ff9b::7f00:1", "a loopback address"),
        ("2002:7f00:1::", "a loopback address"),
        ("169.254.169.254", "a link-local address"),
        ("::ffff:169.254.169.254", "a link-local address"),
        ("fe80::1%eth0", "a link-local address"),
        ("10.1.2.3", "a private address"),
        ("172.16.0.1", "a private address"),
        ("192.168.1.1", "a private address"),
        ("100.64.0.1", "a private address"),
        ("fd00::1", "a private address"),
        ("2001:db8::1", "a private address"),
        ("224.0.0.1", "a multicast address"),
        ("ff0e::1", "a multicast address"),
        ("0.0.0.0", "the unspecified address"),
        ("::", "the unspecified address"),
        ("255.255.255.255", "a private address"),
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str, kind: str) -> None:
    assert why_refused(address) == kind


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_not_refused(address: str) -> None:
    assert why_refused(address) is None


@pytest.mark.parametrize(
    "address",
    [
        "fd00:ec2::254",  # the clouds' metadata
        "fd20:ce::254",
        "100.100.100.200",
        "168.63.129.16",
        "fec0::1",  # what Python calls global
        "::7f00:1",
        "::808:808",
        "::ffff:0:808:808",
        "64:ff9b:1::808:808",
        "192.0.0.9",
        "192.88.99.1",
        "2001:1::1",
        "2001:20::1",
        "3fff::1",
        "5f00::1",
        "4000::1",
        "2001:0:a00:1::f7f7:f7f7",  # Teredo: by a private server; to a private client
        "2001:0:808:808::f5ff:fffe",
        "2002:a9fe:a9fe::1",
        "64:ff9b::a9fe:a9fe",
        "::ffff:192.168.0.1",
        "240.0.0.1",
        "198.18.0.1",
        "0.0.0.1",
    ],
)
def test_addresses_that_are_public_by_their_number_alone_are_refused(address: str) -> None:
    assert why_refused(address) is not None


@pytest.mark.parametrize("address", ["2001:0:808:808::f7f7:f7f7", "2002:808:808::1", "2a00:1450:4001::1"])
def test_what_carries_public_addresses_is_not_refused(address: str) -> None:
    assert why_refused(address) is None
