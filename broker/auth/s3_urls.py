"""Addresses of an S3 bucket's objects, signed for one request each, so that whoever uses one needs no key.

What is signed beside method, object and time are the headers that go with the request: an upload signed with its digest
can carry no other bytes, and one signed with `If-None-Match: *` replaces nothing.
Source: "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)", Amazon S3 API Reference.
"""

import base64
import configparser
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from broker.wire.names import Digest

MAX_LIFE_S = 604_800
"""The longest that S3 takes: a week."""


class BadCredentials(ValueError):
    """What should be S3 credentials is none; its text is a sentence that quotes nothing of it."""


class S3Credentials(NamedTuple):
    """An access key, and the token that belongs to it when it is a temporary one."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return "S3Credentials(…)"

    @classmethod
    def parse(cls, text: str) -> "S3Credentials":
        """Read what stands in a file `~/.aws/credentials`: its profile `default`, or the only one that it has.

        Raises:
            BadCredentials: it cannot be read, or names no key.
        """
        parser = configparser.RawConfigParser(default_section="")
        try:
            parser.read_string(text)
        except configparser.Error as error:
            raise BadCredentials("S3 credentials are written as in ~/.aws/credentials: [default], then keys") from error
        sections = parser.sections()
        name = "default" if "default" in sections else sections[0] if len(sections) == 1 else ""
        if not name:
            raise BadCredentials("of several profiles of S3 credentials one must be [default]")
        key = parser.get(name, "aws_access_key_id", fallback="")
        secret = parser.get(name, "aws_secret_access_key", fallback="")
        if not key or not secret:
            raise BadCredentials("S3 credentials need aws_access_key_id and aws_secret_access_key")
        return cls(key, secret, parser.get(name, "aws_session_token", fallback=None))


def checksum_of(digest: Digest) -> str:
    """Write a digest as `x-amz-checksum-sha256` has it."""
    return base64.b64encode(bytes.fromhex(digest.removeprefix("sha256:"))).decode()


class Signed(NamedTuple):
    """An address, and the headers that have to go with it."""

    url: str
    headers: Mapping[str, str]


class S3Urls:
    """Signs addresses of the objects that one endpoint has."""

    def __init__(self, credentials: S3Credentials, *, region: str, endpoint: str | None = None) -> None:
        self._credentials = Credentials(*credentials)
        self._region = region
        self._endpoint = None if endpoint is None else endpoint.rstrip("/")

    def plain(self, bucket: str, key: str) -> str:
        """Return an object's address, unsigned."""
        path = quote(key, safe="/~")
        if self._endpoint is None:
            return f"https://{bucket}.s3.{self._region}.amazonaws.com/{path}"
        return f"{self._endpoint}/{bucket}/{path}"

    def sign_put(self, bucket: str, key: str, facts: tuple[int, Digest] | None, *, life_s: int) -> Signed:
        """Return an address with the right to make the object, once; with size and digest, of these very bytes alone.

        Source: "Checking object integrity in Amazon S3", Amazon S3 User Guide.
        """
        headers = {"If-None-Match": "*"}
        if facts is not None:
            headers["Content-Length"] = str(facts[0])
            headers["x-amz-checksum-sha256"] = checksum_of(facts[1])
            headers["x-amz-sdk-checksum-algorithm"] = "SHA256"
        return Signed(self.sign("PUT", bucket, key, life_s=life_s, headers=headers), headers)

    def sign_head(self, bucket: str, key: str, *, life_s: int) -> Signed:
        """Return an address with the right to ask what the object is, its checksum too."""
        headers = {"x-amz-checksum-mode": "ENABLED"}
        return Signed(self.sign("HEAD", bucket, key, life_s=life_s, headers=headers), headers)

    def sign(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        life_s: int,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> str:
        """Return the address with the right to do `method` on the object, with exactly these headers, for `life_s`."""
        url = self.plain(bucket, key)
        if query:
            url = f"{url}?{urlencode(query, quote_via=quote)}"
        request = AWSRequest(method, url, headers=dict(headers or {}))
        S3SigV4QueryAuth(self._credentials, "s3", self._region, expires=min(life_s, MAX_LIFE_S)).add_auth(request)
        return str(request.url)
