"""The headers of the tus protocol: declared, and read.

Source: tus.io, "Resumable upload protocol 1.0.x".
"""

import base64
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from broker.domain.errors import Rejected
from broker.domain.paths import FilePath, parse_file_url
from broker.files.appending import CHECKSUMS, Checksum
from broker.http.call import limit
from broker.http.parameters import header
from broker.wire.names import Digest, check_digest
from broker.wire.problems import ProblemCode

VERSION = "1.0.0"
_NUMBER = re.compile(r"[0-9]{1,15}")
_PAIR = re.compile(r"[\x21-\x2b\x2d-\x7e]+(?: [A-Za-z0-9+/=]*)?")
_Offset = Annotated[int, Meta(ge=0, le=999_999_999_999_999)]

RESUMABLE = header("Tus-Resumable", Literal["1.0.0"], "the version of the tus protocol", is_required=True)
LENGTH = header(
    "Upload-Length",
    Annotated[int, Meta(ge=1, le=limit("image_bytes"))],
    "bytes of the whole; of what parts make it is not sent",
)
METADATA = header(
    "Upload-Metadata",
    Annotated[str, Meta(pattern="^digest [A-Za-z0-9+/]+={0,2}(,file [A-Za-z0-9+/]+={0,2})?(,create-only)?(,resume)?$")],
    "`digest` and the Base64 of the bytes' digest; `file` and the Base64 of `file:USER/PATH`: they become that file, "
    "and no image; `create-only`: which is not replaced; `resume`: go on with an upload of the same",
    is_required=True,
)
CONCAT = header(
    "Upload-Concat",
    Annotated[str, Meta(pattern="^(partial|final;/v1/uploads/[0-9a-f]{32}( /v1/uploads/[0-9a-f]{32})*)$")],
    "`partial`: a part of a file; `final;` and the addresses of the parts: the file that they make",
)
OFFSET = header("Upload-Offset", _Offset, "where the bytes begin in the whole", is_required=True)
OFFSET_OF_PATCH = header("Upload-Offset", _Offset, "the same, with the method `PATCH`")
CHECKSUM = header(
    "Upload-Checksum",
    Annotated[str, Meta(pattern=f"^({'|'.join(CHECKSUMS)}) [A-Za-z0-9+/]+={{0,2}}$")],
    "algorithm and Base64 of the body's checksum",
)
METHOD_OVERRIDE = header(
    "X-HTTP-Method-Override", Literal["PATCH", "DELETE", "HEAD"], "the method that is meant", is_required=True
)
LOCATION = header("Location", str, "the upload's address")
STANDS_AT = header("Upload-Offset", _Offset, "how many bytes there are")


def length(headers: Mapping[str, str]) -> int:
    if "Upload-Defer-Length" in headers:
        raise Rejected(ProblemCode.BAD_REQUEST, "an upload has its Upload-Length from the start")
    size_bytes = number(headers, "Upload-Length")
    if size_bytes == 0:
        raise Rejected(ProblemCode.BAD_REQUEST, "Upload-Length is 0: send an empty file by PUT; no image is empty")
    return size_bytes


def number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "")
    if not _NUMBER.fullmatch(text):
        raise Rejected(ProblemCode.BAD_REQUEST, f"{name} is missing or no number of bytes: send it")
    return int(text)


def metadata(field: str) -> dict[str, str]:
    """Read `Upload-Metadata`: keys, each with a value in Base64 or none, with commas between."""
    pairs = [pair.strip() for pair in field.split(",") if pair.strip()]
    if not all(_PAIR.fullmatch(pair) for pair in pairs):
        raise Rejected(ProblemCode.BAD_REQUEST, "Upload-Metadata cannot be read: send KEY BASE64, with commas between")
    return dict(pair.partition(" ")[::2] for pair in pairs)


def announced(pairs: Mapping[str, str]) -> Digest:
    if "digest" not in pairs:
        raise Rejected(
            ProblemCode.BAD_REQUEST,
            "Upload-Metadata names no digest: send `digest` and the Base64 of sha256: and 64 hexadecimal digits",
        )
    return check_digest(_decoded(pairs["digest"], "Upload-Metadata").decode("ascii", "replace"))


def file(pairs: Mapping[str, str]) -> FilePath | None:
    """Return the file that the bytes are to become; None for an image, or a part.

    Raises:
        BadPath: `file` names none.
    """
    if "file" not in pairs:
        return None
    return parse_file_url(_decoded(pairs["file"], "Upload-Metadata").decode("utf-8", "surrogateescape"))


def parts(concat: str) -> list[str]:
    """Return the ids of the parts of `final;ADDRESS ADDRESS`; the addresses may be whole."""
    found = [address.rpartition("/")[2] for address in concat.partition(";")[2].split()]
    if not 1 <= len(found) <= limit("open_uploads") or len(set(found)) != len(found):
        raise Rejected(
            ProblemCode.BAD_REQUEST, f"Upload-Concat: final; names 1 to {limit('open_uploads')} parts, each once"
        )
    return found


def checksum(field: str | None) -> Checksum | None:
    if field is None:
        return None
    algorithm, _, value = field.strip().partition(" ")
    if algorithm not in CHECKSUMS:
        raise Rejected(ProblemCode.BAD_REQUEST, f"Upload-Checksum is of {' or '.join(CHECKSUMS)}, not {algorithm[:32]}")
    return Checksum(algorithm, _decoded(value.strip(), "Upload-Checksum"))


def _decoded(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # what is not even ASCII is no binascii.Error
        raise Rejected(ProblemCode.BAD_REQUEST, f"{name} cannot be read: its value is no Base64") from error
