"""A stream's S3: its keys are unsealed here for each signature, and go nowhere else."""

from urllib.parse import urlsplit

from broker.auth.s3_urls import BadCredentials, S3Credentials, S3Urls
from broker.auth.sealing import CannotUnseal
from broker.auth.urls import LIFE
from broker.domain.errors import Rejected
from broker.domain.targets import bucket_and_key, origin_of
from broker.http.call import Services
from broker.wire.leases import SignedUrl, UploadFacts
from broker.wire.names import OwnedName, UserName, check_digest
from broker.wire.problems import ProblemCode
from broker.wire.secrets import SecretKind
from broker.wire.streams import S3Access

_LIFE_S = int(LIFE.total_seconds())


class NoS3Keys(Exception):
    """The keys of a stream's S3 cannot be had; the text is a sentence for the stream's user."""


def s3_credentials(value: bytes) -> S3Credentials:
    """Read the value of a secret of kind `aws_credentials`.

    Raises:
        Rejected: `bad_request`: it is none; no sentence quotes it.
    """
    try:
        return S3Credentials.parse(value.decode())
    except UnicodeDecodeError as error:
        raise Rejected(ProblemCode.BAD_REQUEST, "S3 credentials are a text, as in ~/.aws/credentials") from error
    except BadCredentials as error:
        raise Rejected(ProblemCode.BAD_REQUEST, str(error)) from error


async def signer(services: Services, user: UserName, s3: S3Access) -> S3Urls:
    """Return what signs addresses with the keys that a spec of the user names.

    Raises:
        NoS3Keys: the secret is gone, of another kind, or cannot be opened.
    """
    ref = OwnedName(user, s3.secret)
    found = (await services.store.sealed_secrets([ref])).get(s3.secret)
    if found is None or found.kind is not SecretKind.AWS_CREDENTIALS:
        kind = SecretKind.AWS_CREDENTIALS
        raise NoS3Keys(f"there is no secret {ref} of kind {kind}: `broker secret add {s3.secret} --kind {kind}`")
    try:
        value = services.keys.unseal(found.sealed, user, s3.secret, str(found.version))
        return S3Urls(s3_credentials(value), region=s3.region, endpoint=s3.endpoint)
    except (CannotUnseal, Rejected) as error:
        raise NoS3Keys(f"the secret {ref} cannot be opened by the broker: add it anew") from error


def signed_get(urls: S3Urls, url: str) -> SignedUrl:
    """Return an object's address with the right to read it for a while."""
    return SignedUrl(url=urls.sign("GET", *bucket_and_key(url), life_s=_LIFE_S), target=url)


def signed_put(urls: S3Urls, url: str, facts: UploadFacts | None) -> SignedUrl:
    """Return an object's address with the right to make it, once; where the bytes are known, of these alone."""
    known = None if facts is None else (facts.size_bytes, check_digest(facts.digest))
    signed = urls.sign_put(*bucket_and_key(url), known, life_s=_LIFE_S)
    return SignedUrl(url=signed.url, target=url, method="PUT", headers=dict(signed.headers))


def s3_origin(s3: S3Access, url: str) -> str | None:
    """Return `HOST:PORT` at which a checked `s3:` address, or the beginning of one, is asked."""
    if s3.endpoint is not None:
        return origin_of(s3.endpoint)
    bucket = url.partition("://")[2].partition("/")[0]
    host = urlsplit(S3Urls(S3Credentials("", ""), region=s3.region).plain(bucket, "")).hostname
    return f"{host}:443"
