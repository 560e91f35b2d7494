"""The client by which the broker itself acts on its bucket."""

from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.store import S3Store

from broker.domain.buckets import Bucket

if TYPE_CHECKING:
    from obstore.store import S3Config  # there is none at run time


def bucket_store(bucket: Bucket, access_key_id: str, secret_access_key: str, session_token: str | None) -> S3Store:
    """Return what sends the broker's own requests below the bucket's prefix."""
    config: S3Config = {
        "access_key_id": access_key_id,
        "secret_access_key": secret_access_key,
        "region": bucket.region,
        "checksum_algorithm": "SHA256",
    }
    if session_token is not None:
        config["session_token"] = session_token
    if bucket.endpoint is not None:
        config["endpoint"] = bucket.endpoint
    is_plain = bucket.endpoint is not None and bucket.endpoint.startswith("http://")
    return S3Store(
        bucket.bucket,
        prefix=bucket.prefix or None,
        config=config,
        client_options={"allow_http": is_plain, "connect_timeout": "10s", "timeout": "300s"},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=60)},
    )
