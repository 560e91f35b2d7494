"""Signed addresses of the file service's S3 bucket, each for one act on one object, so that nobody else needs a key."""

from broker.auth.s3_urls import S3Urls
from broker.domain import targets
from broker.domain.buckets import Bucket
from broker.files.objects import ObjectName
from broker.files.pending import ADDRESS_LIFE_S
from broker.files.s3_objects import Address, key_of
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
        key = self._bucket.key(key_of(stored.name))
        return self._urls.sign("GET", self._bucket.bucket, key, life_s=ADDRESS_LIFE_S, query=query)

    def head(self, key: str) -> Address:
        signed = self._urls.sign_head(self._bucket.bucket, self._bucket.key(key), life_s=ADDRESS_LIFE_S)
        return Address(signed.url, signed.headers)

    def put(self, key: str, size_bytes: int, digest: Digest) -> Address:
        facts = (size_bytes, digest)
        signed = self._urls.sign_put(self._bucket.bucket, self._bucket.key(key), facts, life_s=ADDRESS_LIFE_S)
        return Address(signed.url, signed.headers)

    def put_object(self, name: ObjectName, size_bytes: int, digest: Digest) -> Address:
        """Return where exactly these bytes can be put."""
        return self.put(key_of(name), size_bytes, digest)
