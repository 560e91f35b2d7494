"""Addresses of images that somebody else serves: fetched by a launcher, shown to everybody who sees the machine."""

from urllib.parse import urlsplit

from broker.domain import limits, targets
from broker.domain.errors import Rejected
from broker.wire.problems import ProblemCode


def check_image_url(url: str, what: str) -> None:
    """Check the address of an image as far as it can be without calling it; `what` names its disk.

    Raises:
        Rejected: `bad_request`.
    """
    fault = _fault(url)
    if fault is not None:
        raise Rejected(
            ProblemCode.BAD_REQUEST, f"{what}: {fault}; write an https: address, or leave it out and upload the image"
        )


def _fault(url: str) -> str | None:
    if len(url) > limits.default("url_bytes"):
        return f"the url is longer than {limits.default('url_bytes')} bytes"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "the url holds characters that must be percent-encoded"
    try:
        parts = urlsplit(url)
        targets.origin_of(url)
    except ValueError as error:
        return f"the url is no address: {error}"
    if parts.scheme == "http":
        return "an image is not fetched over plain http, which anybody on the way could change or read"
    if parts.scheme != "https" or not parts.hostname:
        return "the url is no https: address"
    if parts.username is not None or parts.password is not None:
        return "the url carries a user or password, which everybody who sees the machine would be shown"
    if parts.fragment:
        return "the url has a fragment, which no server is sent"
    return None
