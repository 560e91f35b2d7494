"""Problem codes: the closed list of what can be wrong with a request, as `application/problem+json`.

Source: RFC 9457. `type` is `urn:vmbroker:problem:CODE`; `detail` is a sentence for a person that says what to do.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:vmbroker:problem:"


class ProblemCode(StrEnum):
    BAD_REQUEST = "bad_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    ALREADY_EXISTS = "already_exists"
    MACHINE_IN_USE = "machine_in_use"
    IMAGE_IN_USE = "image_in_use"
    OFFSET_DIFFERS = "offset_differs"
    TOO_MANY_UPLOADS = "too_many_uploads"
    TOO_MANY_LAUNCHERS = "too_many_launchers"
    TOO_MANY_FOLLOWERS = "too_many_followers"
    TOO_MANY_BODIES = "too_many_bodies"
    TOO_MANY_TESTS = "too_many_tests"
    SETTLED = "settled"
    GIVEN_OUT = "given_out"
    BULK_BUSY = "bulk_busy"
    PURGING = "purging"
    QUOTA_EXCEEDED = "quota_exceeded"
    LEASE_LOST = "lease_lost"
    CODE_SPENT = "code_spent"
    TICKET_SPENT = "ticket_spent"
    TICKET_REPLAYED = "ticket_replayed"
    SECRET_WITHHELD = "secret_withheld"  # noqa: S105 # the name of a code
    CLIENT_TOO_OLD = "client_too_old"
    RESULT_DIFFERS = "result_differs"
    OUTPUT_NOT_VERIFIED = "output_not_verified"
    TOO_SLOW = "too_slow"
    TUS_VERSION = "tus_version"
    TOO_LARGE = "too_large"
    MEDIA_TYPE_REFUSED = "media_type_refused"
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"
    BAD_ITEMS = "bad_items"
    BAD_SPEC = "bad_spec"
    XML_REFUSED = "xml_refused"
    DIGEST_MISMATCH = "digest_mismatch"
    IMAGE_MISSING = "image_missing"
    KEY_REUSED = "key_reused"
    UPLOAD_BUSY = "upload_busy"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    INTERNAL = "internal"
    STORE_UNAVAILABLE = "store_unavailable"
    ISSUER_UNAVAILABLE = "issuer_unavailable"
    STORE_DISK_FULL = "store_disk_full"


class ProblemKind(NamedTuple):
    status: int
    title: str


PROBLEMS: dict[ProblemCode, ProblemKind] = {
    ProblemCode.BAD_REQUEST: ProblemKind(400, "The request cannot be read"),
    ProblemCode.UNAUTHENTICATED: ProblemKind(401, "No token, or one that is not valid here"),
    ProblemCode.FORBIDDEN: ProblemKind(403, "The token does not allow this"),
    ProblemCode.NOT_FOUND: ProblemKind(404, "There is no such thing, or you may not see it"),
    ProblemCode.METHOD_NOT_ALLOWED: ProblemKind(405, "This address does not take that method"),
    ProblemCode.ALREADY_EXISTS: ProblemKind(409, "It exists already and may not be replaced"),
    ProblemCode.MACHINE_IN_USE: ProblemKind(409, "The machine is needed still"),
    ProblemCode.IMAGE_IN_USE: ProblemKind(409, "A machine names the image still"),
    ProblemCode.OFFSET_DIFFERS: ProblemKind(409, "The upload stands at another offset"),
    ProblemCode.TOO_MANY_UPLOADS: ProblemKind(409, "Too many uploads are unfinished"),
    ProblemCode.TOO_MANY_LAUNCHERS: ProblemKind(409, "Too many launchers of this token are there"),
    ProblemCode.SETTLED: ProblemKind(409, "The item is settled"),
    ProblemCode.GIVEN_OUT: ProblemKind(409, "A vm has the item"),
    ProblemCode.BULK_BUSY: ProblemKind(409, "Another act on the whole stream goes on"),
    ProblemCode.PURGING: ProblemKind(409, "The stream is being removed"),
    ProblemCode.LEASE_LOST: ProblemKind(409, "The item is no longer this vm's"),
    ProblemCode.CODE_SPENT: ProblemKind(409, "The one-time code was used by somebody else"),
    ProblemCode.TICKET_SPENT: ProblemKind(409, "The ticket's dispatch is over"),
    ProblemCode.TICKET_REPLAYED: ProblemKind(409, "The ticket was used by somebody else"),
    ProblemCode.SECRET_WITHHELD: ProblemKind(409, "A secret of the stream cannot be handed out; its item is held"),
    ProblemCode.CLIENT_TOO_OLD: ProblemKind(409, "The client does not know what the item needs; it is held"),
    ProblemCode.RESULT_DIFFERS: ProblemKind(409, "Another result was accepted before"),
    ProblemCode.OUTPUT_NOT_VERIFIED: ProblemKind(409, "A named output is not there as described"),
    ProblemCode.TOO_SLOW: ProblemKind(408, "The body came too slowly"),
    ProblemCode.TUS_VERSION: ProblemKind(412, "This version of the tus protocol is not spoken"),
    ProblemCode.TOO_LARGE: ProblemKind(413, "The body is larger than allowed"),
    ProblemCode.MEDIA_TYPE_REFUSED: ProblemKind(415, "The body is not of the type that this address takes"),
    ProblemCode.RANGE_NOT_SATISFIABLE: ProblemKind(416, "The asked range lies outside of the file"),
    ProblemCode.BAD_ITEMS: ProblemKind(422, "Some items are not valid"),
    ProblemCode.BAD_SPEC: ProblemKind(422, "The stream's spec is not valid"),
    ProblemCode.XML_REFUSED: ProblemKind(422, "The domain XML asks for the host"),
    ProblemCode.DIGEST_MISMATCH: ProblemKind(422, "The bytes do not match the digest"),
    ProblemCode.IMAGE_MISSING: ProblemKind(422, "A disk names an image that was not uploaded"),
    ProblemCode.KEY_REUSED: ProblemKind(422, "The idempotency key was used for another body"),
    ProblemCode.UPLOAD_BUSY: ProblemKind(423, "Another request has the upload"),
    ProblemCode.QUOTA_EXCEEDED: ProblemKind(429, "As much as you may have is there"),
    # No status of HTTP's own: the tus protocol names it.
    ProblemCode.CHECKSUM_MISMATCH: ProblemKind(460, "The bytes do not match the checksum"),
    ProblemCode.TOO_MANY_FOLLOWERS: ProblemKind(429, "Too many follow events already"),
    ProblemCode.TOO_MANY_BODIES: ProblemKind(429, "Too many large bodies are being read for this user"),
    ProblemCode.TOO_MANY_TESTS: ProblemKind(429, "Callbacks were tested too often within a minute"),
    ProblemCode.INTERNAL: ProblemKind(500, "The broker failed"),
    ProblemCode.STORE_UNAVAILABLE: ProblemKind(503, "The store is away for the moment"),
    ProblemCode.ISSUER_UNAVAILABLE: ProblemKind(503, "The token's issuer is away for the moment"),
    ProblemCode.STORE_DISK_FULL: ProblemKind(503, "The store's disk is full"),
}


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every error answer."""

    type: str
    title: str
    status: int
    detail: str
    code: ProblemCode
    request_id: str = ""
    retry_after_s: int | None = None
    accepted_lines: int | None = None
    """Of a push: so many items were accepted before the part with the fault, which begins at `next_line`."""
    next_line: int | None = None
    refusals: list[dict[str, str]] = []
    """For `xml_refused` and `bad_items`: one entry each, with `path` or `line`, `reason` and what to do."""


def problem(code: ProblemCode, detail: str, **fields: object) -> Problem:
    """Build the problem of a code; status and title come from the table."""
    kind = PROBLEMS[code]
    return msgspec.convert(
        {
            "type": f"{TYPE_PREFIX}{code.value}",
            "title": kind.title,
            "status": kind.status,
            "detail": detail,
            "code": code.value,
            **fields,
        },
        Problem,
    )
