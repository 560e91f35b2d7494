"""SHA-256 digests as HTTP tells them. Source: RFC 9530; "PutObject", Amazon S3 API Reference."""

import base64
from collections.abc import Mapping


def sha256_of(headers: Mapping[str, str], field: str = "Repr-Digest") -> bytes | None:
    """Read the SHA-256 of a `Repr-Digest` or `Content-Digest` field; None without one that can be read."""
    for part in headers.get(field, "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "sha-256" and value.startswith(":") and value.endswith(":"):
            return _decoded(value.strip(":"))
    return None


def sha256_of_s3(headers: Mapping[str, str]) -> bytes | None:
    """Read the SHA-256 by which an S3 server says what it stored; None without one."""
    return _decoded(headers.get("x-amz-checksum-sha256", ""))


def _decoded(text: str) -> bytes | None:
    try:
        digest = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return digest if len(digest) == 32 else None
