"""Where inputs are got and outputs are put, for who has no token: addresses signed, and what is sent along."""

from collections.abc import Mapping

from broker.auth.s3_urls import S3Urls
from broker.domain.access import HTTP_OF, access_of, exposure
from broker.domain.paths import FILE_SCHEME
from broker.domain.specs import inputs_of
from broker.domain.targets import DAV_SCHEMES, S3_SCHEME, BadTarget, folders_of, origin_of, scheme_of
from broker.http.call import Call
from broker.http.file_addresses import input_address, output_address
from broker.http.handing_out import header_values, withhold
from broker.http.s3_signing import NoS3Keys, s3_origin, signed_get, signed_put, signer
from broker.store import Claimed, Dispatched
from broker.wire.leases import SignedUrl, UploadFacts
from broker.wire.streams import StreamSpec


async def signed_addresses(
    call: Call, claimed: Claimed, targets: Mapping[str, str], uploads: Mapping[str, UploadFacts]
) -> tuple[SignedUrl | None, dict[str, SignedUrl], dict[str, SignedUrl]]:
    """Return where the input, the further inputs and the named outputs of a claimed item are.

    Raises:
        Conflict: SECRET_WITHHELD: what has to be sent along, or signed with, is not there.
    """
    spec = claimed.spec
    inputs = inputs_of(spec, claimed.item.inputs)
    given = [*inputs.values(), *targets.values(), *([claimed.item.url] if claimed.item.url else [])]
    s3 = await _signer(call, claimed) if any(scheme_of(url) == S3_SCHEME for url in given) else None
    secrets = await header_values(call, claimed, _secrets_for(spec, given))

    async def get(url: str) -> SignedUrl:
        return _with_headers(spec, await got(call, url, s3), secrets)

    return (
        await get(claimed.item.url) if claimed.item.url else None,
        {name: await get(url) for name, url in inputs.items()},
        {
            name: _with_headers(spec, await _put(call, spec, url, uploads.get(name), s3), secrets)
            for name, url in targets.items()
        },
    )


async def staged_addresses(call: Call, found: Dispatched) -> tuple[SignedUrl | None, dict[str, SignedUrl]]:
    """Return where the inputs are that an item's launcher fetches; secret headers go to vms with a network alone.

    An object of S3 whose keys are gone is at its plain address, where its server refuses it.
    """
    spec, item = found.spec, found.item
    inputs = inputs_of(spec, item.inputs)
    s3: S3Urls | None = None
    if spec.s3 is not None and any(scheme_of(url) == S3_SCHEME for url in (item.url or "", *inputs.values())):
        try:
            s3 = await signer(call.services, item.ref.stream.user, spec.s3)
        except NoS3Keys:
            s3 = None

    async def get(url: str) -> SignedUrl:
        return _with_headers(spec, await got(call, url, s3), {})

    return await get(item.url) if item.url else None, {name: await get(url) for name, url in inputs.items()}


def origins_of(found: Dispatched) -> list[str | None]:
    """List where else than at the broker an item's vm has to reach: its inputs, its targets, what has headers."""
    spec, item = found.spec, found.item
    urls = [*([item.url] if item.url else []), *inputs_of(spec, item.inputs).values(), spec.output.to.partition("{")[0]]
    origins = [s3_origin(spec.s3, url) if scheme_of(url) == S3_SCHEME and spec.s3 else _origin(url) for url in urls]
    origins += [_origin(f"https://{key}/") for key in spec.access]
    return origins


def _origin(url: str) -> str | None:
    try:
        return origin_of(url)
    except BadTarget:  # Of a release that checked less: no vm gets there, and no dispatch fails of it.
        return None


async def got(call: Call, url: str, s3: S3Urls | None) -> SignedUrl:
    """Return where an address is got by GET; `s3` signs for the stream's S3."""
    if url.startswith(FILE_SCHEME):
        return await input_address(call, url)
    if s3 is not None and scheme_of(url) == S3_SCHEME:
        return signed_get(s3, url)
    return SignedUrl(url=by_http(url), target=url)


async def _put(call: Call, spec: StreamSpec, target: str, facts: UploadFacts | None, s3: S3Urls | None) -> SignedUrl:
    if target.startswith(FILE_SCHEME):
        return await output_address(call, target, facts)
    if s3 is not None and scheme_of(target) == S3_SCHEME:
        return signed_put(s3, target, facts)
    return SignedUrl(url=by_http(target), target=target, method="PUT", folders=folders_of(spec.output.to, target))


def by_http(url: str) -> str:
    """Return a WebDAV address as it is asked, any other as it is."""
    scheme = scheme_of(url)
    return f"{HTTP_OF[scheme]}:{url.partition(':')[2]}" if scheme in DAV_SCHEMES else url


async def _signer(call: Call, claimed: Claimed) -> S3Urls | None:
    if claimed.spec.s3 is None:
        return None
    try:
        return await signer(call.services, claimed.item.ref.stream.user, claimed.spec.s3)
    except NoS3Keys as error:
        await withhold(call.services, claimed, f"its stream's S3 cannot be used: {error}")


def _secrets_for(spec: StreamSpec, urls: list[str]) -> list[str]:
    """Return the secrets that go along to these addresses, each once."""
    found = [access_of(spec.access, url) for url in urls]
    return list(dict.fromkeys(name for each in found if each for name in each.secret_headers.values()))


def _with_headers(spec: StreamSpec, signed: SignedUrl, secrets: Mapping[str, str]) -> SignedUrl:
    found = access_of(spec.access, signed.target)
    if found is None:
        return signed
    # Looked at again: what a push was checked by may have been another release's.
    may_have = secrets if exposure(spec, signed.target) is None else {}
    headers = {name: may_have[secret] for name, secret in found.secret_headers.items() if secret in may_have}
    return SignedUrl(
        url=signed.url,
        target=signed.target,
        method=signed.method,
        headers={**found.headers, **headers, **signed.headers},
        folders=signed.folders,
        size_bytes=signed.size_bytes,
        digest=signed.digest,
    )
