from pathlib import Path

import pytest

from broker.cli.disks_given import Remote, parse_disks
from broker.cli.exits import BadUsage
from broker.wire.names import Digest

HEX = "ab" * 32


def test_a_disk_is_a_path_or_an_address_with_its_digest() -> None:
    given = parse_disks(["vda=a=b#c.qcow2", f"vdb=https://host.example/x.qcow2?sig=1=2#sha256={HEX}"])

    assert given == {
        "vda": Path("a=b#c.qcow2"),
        "vdb": Remote("https://host.example/x.qcow2?sig=1=2", Digest(f"sha256:{HEX}")),
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("vda", "write TARGET=PATH"),
        ("=x", "write TARGET=PATH"),
        ("vda=", "write TARGET=PATH"),
        ("vda=https://host.example/x.qcow2", "#sha256=HEX with the SHA-256 of the file"),
        (f"vda=https://host.example/x#sha256={HEX[:-1]}", "#sha256=HEX with the SHA-256 of the file"),
        (f"vda=http://host.example/x#sha256={HEX}", "by https: only"),
        ("vda=nbd://host.example/x", "by https: only"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(text: str, sentence: str) -> None:
    with pytest.raises(BadUsage, match=sentence):
        parse_disks([text])
