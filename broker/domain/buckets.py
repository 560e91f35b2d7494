"""Where a bucket of S3 is, as an operator writes it."""

import re
from urllib.parse import urlsplit

import msgspec

_PLACE = re.compile(r"s3://([a-z0-9][a-z0-9.\-]{1,61}[a-z0-9])(?:/([A-Za-z0-9._\-/]{0,512}))?")
"""Source: "General purpose bucket naming rules" and "Naming Amazon S3 objects" (safe characters), S3 User Guide."""


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket and the prefix below which one's own objects are; `endpoint` is None for Amazon's own.

    `credentials` is a file in the form of `~/.aws/credentials`; None: they are in the environment.
    """

    bucket: str
    prefix: str
    region: str
    endpoint: str | None = None
    credentials: str | None = None

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, below: str) -> str:
        """Return the whole key of what has this one below the prefix."""
        return f"{self.prefix}/{below}" if self.prefix else below


def parse_bucket(text: str) -> tuple[str, str]:
    """Read `s3://BUCKET/PREFIX` into bucket and prefix.

    Raises:
        ValueError: it is none; show the text.
    """
    match = _PLACE.fullmatch(text)
    prefix = (match[2] or "").strip("/") if match else ""
    if match is None or any(part in {"", ".", ".."} for part in prefix.split("/") if prefix):
        raise ValueError("write s3://BUCKET or s3://BUCKET/PREFIX, the prefix of letters, digits and ._-/")
    return match[1], prefix


def check_endpoint(text: str) -> str:
    """Return the address of a server that speaks S3, without the slash at its end.

    Raises:
        ValueError: it is none; show the text.
    """
    parts = urlsplit(text)
    is_bare = not (parts.query or parts.fragment or parts.username or parts.path.strip("/"))
    if parts.scheme not in {"http", "https"} or not parts.hostname or not is_bare:
        raise ValueError("write https://HOST or http://HOST:PORT, without a path")
    return text.rstrip("/")
