"""Signed addresses of the file service's S3 bucket, each for one act on one object, so that nobody else needs a key."""

from collections.abc import Mapping

from broker.auth.s3_urls import S3Urls
from broker.domain import targets
from broker.domain.buckets import Bucket
from broker.files.objects import ObjectName
from broker.files.pending import ADDRESS_LIFE_S
from broker.files.s3_objects import Address, checksum_of, key_of
from broker.files.user_files import StoredFile
from broker.http.sending import attachment
from broker.wire.names import Digest


class BucketUrls:
    """Signs addresses of the bucket's objects; each is good for as long as one of the broker's own."""

    def __init__(self, urls: S3Urls, bucket: Bucket) -> None:
        self._urls = urls
        self._bucket = bucket

    @property
    def origin(self) -> str | None:
        """`HOST:PORT` that these addresses lead to."""
        return targets.origin_of(self._urls.plain(self._bucket.bucket, ""))

    def get(self, stored: StoredFile, name: str) -> str:
        """Return where the file's bytes can be had, as an attachment that no browser runs."""
        query = {
            "response-cache-control": "private, no-cache",
            "response-content-disposition": attachment(name),
            "response-content-type": "application/octet-stream",
        }
        return self._sign("GET", key_of(stored.name), query=query)

    def head(self, key: str) -> Address:
        headers = {"x-amz-checksum-mode": "ENABLED"}
        return Address(self._sign("HEAD", key, headers), headers)

    def put(self, key: str, size_bytes: int, digest: Digest) -> Address:
        headers = {
            "Content-Length": str(size_bytes),
            "If-None-Match": "*",
            "x-amz-checksum-sha256": checksum_of(digest),
            "x-amz-sdk-checksum-algorithm": "SHA256",
        }
        return Address(self._sign("PUT", key, headers), headers)

    def put_object(self, name: ObjectName, size_bytes: int, digest: Digest) -> Address:
        """Return where exactly these bytes can be put."""
        return self.put(key_of(name), size_bytes, digest)

    def _sign(
        self, method: str, key: str, headers: Mapping[str, str] | None = None, query: Mapping[str, str] | None = None
    ) -> str:
        return self._urls.sign(
            method, self._bucket.bucket, self._bucket.key(key), life_s=ADDRESS_LIFE_S, headers=headers, query=query
        )
