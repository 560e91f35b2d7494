"""Addresses of the file service's files for who has no token: the broker's own, or straight to its S3 bucket."""

from aiohttp import web

from broker.domain.paths import FilePath, parse_file_url
from broker.files.objects import Facts, ObjectName
from broker.files.user_files import StoredFile
from broker.http.bucket_urls import BucketUrls
from broker.http.call import Call
from broker.http.sending import attachment, repr_digest
from broker.wire.leases import SignedUrl, UploadFacts
from broker.wire.names import check_digest


async def input_address(call: Call, url: str) -> SignedUrl:
    """Return where `file:USER/PATH` can be had without a token, and what it is, where it is there."""
    path = parse_file_url(url)
    stored = await call.services.files.find(path)
    if stored is None:
        return SignedUrl(url=call.services.urls.sign("GET", f"/v1/files/{path}"), target=url)
    if stored.location is None:
        address = _bucket(call).get(stored, path.name)
    else:
        address = call.services.urls.sign("GET", f"/v1/files/{path}")
    return SignedUrl(url=address, target=url, size_bytes=stored.size_bytes, digest=stored.digest)


async def output_address(call: Call, target: str, facts: UploadFacts | None) -> SignedUrl:
    """Return where `file:USER/PATH` can be made without a token, of these bytes alone where they are known.

    Straight in the bucket, if there is one and they are known; through the broker otherwise, and where they are there
    already: it answers that as a retry.
    """
    path = parse_file_url(target)
    direct = None
    if facts is not None:
        direct = await direct_address(call, path, Facts(facts.size_bytes, check_digest(facts.digest)), create_only=True)
    if isinstance(direct, SignedUrl):
        return direct
    url = call.services.urls.sign("PUT", f"/v1/files/{path}")
    return SignedUrl(url=url, target=target, method="PUT", headers={"If-None-Match": "*"})


async def direct_address(
    call: Call, path: FilePath, facts: Facts, *, create_only: bool
) -> SignedUrl | StoredFile | None:
    """Return where a file can be put past the broker; the file, where it is there; None where there is no such way.

    Raises:
        Rejected, Unavailable: as `UserFiles.announce`.
    """
    found = await call.services.files.announce(path, facts, create_only=create_only)
    if not isinstance(found, ObjectName):
        return found
    address = _bucket(call).put_object(found, facts.size_bytes, facts.digest)
    return SignedUrl(url=address.url, target=path.url, method="PUT", headers=dict(address.headers))


def redirected(call: Call, stored: StoredFile) -> web.Response:
    """Answer a HEAD from the record, and a GET with where S3 has the bytes: none of them passes here."""
    headers = {
        "Repr-Digest": repr_digest(stored.digest),
        "Cache-Control": "private, no-cache",
        **({"ETag": stored.etag} if stored.etag else {}),
    }
    if any(each.value in {"*", stored.etag.strip('"')} for each in call.request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    if call.request.method == "GET":
        headers |= {"Location": _bucket(call).get(stored, call.file.name), "Cache-Control": "no-store"}
        return web.Response(status=307, headers=headers)
    return web.Response(
        headers={
            **headers,
            "Accept-Ranges": "bytes",
            "Content-Length": str(stored.size_bytes),
            "Content-Type": "application/octet-stream",
            "Content-Disposition": attachment(call.file.name),
        }
    )


def file_origins(call: Call) -> list[str]:
    """Return where else than at the broker a vm has to reach for files."""
    bucket = call.services.bucket
    return [bucket.origin] if bucket is not None and bucket.origin else []


def _bucket(call: Call) -> BucketUrls:
    assert call.services.bucket is not None, "an object that is on no disk is in the bucket"
    return call.services.bucket
