import hashlib
import re

import pytest

from broker.client.session import Session
from launcher.images.public_names import image_attribute
from launcher.images.source import Address

DIGEST = f"sha256:{'a' * 64}"


def test_the_name_of_an_image_is_the_same_in_each_release() -> None:
    assert image_attribute(DIGEST) == "VMBROKER_IMAGE_3033fa56f2d99114883b"


def test_a_name_is_an_attribute_of_classads_and_shows_nothing_of_the_digest() -> None:
    name = image_attribute(DIGEST)
    assert re.fullmatch(r"VMBROKER_IMAGE_[0-9a-f]{20}", name)
    assert hashlib.sha256(DIGEST.encode()).hexdigest()[:20] not in name
    assert image_attribute(f"sha256:{'b' * 64}") != name


@pytest.mark.parametrize(
    ("url", "is_foreign", "is_public"),
    [
        ("https://images.example.org/debian.qcow2", True, True),
        ("https://images.example.org/debian.qcow2?X-Amz-Signature=abc", True, False),
        ("https://alice:word@images.example.org/debian.qcow2", True, False),
        ("https://broker.example.org/v1/images/sha256", False, False),
    ],
)
async def test_only_an_address_that_needs_no_signature_is_for_anybody(
    url: str, is_foreign: bool, is_public: bool
) -> None:
    async with Session("https://broker.example.org") as session:
        assert Address(session, url, is_foreign=is_foreign).is_public is is_public


async def test_an_address_that_is_signed_anew_is_not_for_anybody() -> None:
    async def renew() -> str:
        return "https://broker.example.org/other"

    async with Session("https://broker.example.org") as session:
        assert not Address(session, "https://broker.example.org/one", is_foreign=True, renew=renew).is_public
