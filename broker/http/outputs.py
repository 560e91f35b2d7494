"""Outputs, wherever they are: one address for each, which leads there."""

from aiohttp import web

from broker.domain.errors import Rejected
from broker.domain.paths import FILE_SCHEME, parse_file_url
from broker.domain.scopes import Authority
from broker.domain.targets import DAV_SCHEMES, HTTP_SCHEMES, S3_SCHEME, scheme_of
from broker.http.addresses import got
from broker.http.call import Call, allow
from broker.http.contract import NOTHING, operation
from broker.http.items import known_item
from broker.http.s3_signing import NoS3Keys, signer
from broker.http.streams import known_stream
from broker.wire.problems import ProblemCode

_ASKED = HTTP_SCHEMES | DAV_SCHEMES


@operation(answers={307: NOTHING})
async def get_output(call: Call) -> web.Response:
    """Lead to an output: signed for a while where it is in the file service or in S3, else as it is.

    No secret header is told: who is led to a server that wants one has to know it.
    """
    item, name = await known_item(call), call.request.match_info["path"]
    url = next((output.url for output in item.outputs if output.name == name), None)
    if url is None:
        raise Rejected(ProblemCode.NOT_FOUND, f"{item.item} has no output {name[:255]!r}: `broker results` lists them")
    s3 = None
    if url.startswith(FILE_SCHEME):
        file = parse_file_url(url)
        allow(call.who, Authority.FILE_READ, (file.user, *file.segments))
    elif scheme_of(url) == S3_SCHEME:
        view = await call.services.store.get_stream(call.stream, item.revision) or await known_stream(call)
        spec = view.spec
        if spec.s3 is None:
            raise Rejected(ProblemCode.NOT_FOUND, f"{url} cannot be signed: the stream's spec has no s3 any more")
        try:
            s3 = await signer(call.services, call.stream.user, spec.s3)
        except NoS3Keys as error:
            raise Rejected(ProblemCode.NOT_FOUND, f"{url} cannot be signed: {error}") from error
    elif scheme_of(url) not in _ASKED:
        raise Rejected(ProblemCode.NOT_FOUND, f"it is at {url}, where a plugin put it: fetch it by its own means")
    return web.Response(status=307, headers={"Location": (await got(call, url, s3)).url, "Cache-Control": "no-store"})
