"""Parameters of queries and headers, and of addresses, each declared once."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from broker.domain import limits
from broker.http.contract import Parameter, Place
from broker.wire.callbacks import CallbackState
from broker.wire.launchers import ListedState
from broker.wire.names import NAME_PATTERN
from broker.wire.states import ItemState

_Name = Annotated[str, Meta(pattern=f"^{NAME_PATTERN}$")]
_Printable = Annotated[str, Meta(pattern=r"^[\x20-\x7e]{1,255}$")]
_MAX_LIMIT = limits.default("page_items")


def _query(name: str, kind: Any, text: str) -> Parameter:
    return Parameter(Place.QUERY, name, kind, text)


def header(name: str, kind: Any, text: str, *, is_required: bool = False) -> Parameter:
    return Parameter(Place.HEADER, name, kind, text, is_required)


def _path(name: str, kind: Any, text: str) -> Parameter:
    return Parameter(Place.PATH, name, kind, text, is_required=True)


PATH: dict[str, Parameter] = {
    each.name: each
    for each in (
        _path("user", _Name, "a user; without `..`, as every name"),
        _path("job", _Name, "the stream's name among its user's"),
        _path("name", _Name, "a name of a user's or of a token's own"),
        _path("reader", _Name, "another user"),
        _path("number", Annotated[int, Meta(ge=1, le=999_999_999_999_999)], "the item's number in its stream"),
        _path("digest", Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")], "of the image's bytes"),
        _path("site", _Name, "a site's name"),
        _path("token", Annotated[str, Meta(pattern="^[!-~]{1,200}$")], "the id of a login or a token, as it is listed"),
        _path("callback", Annotated[str, Meta(pattern="^evt_[0-9a-f]{32}$")], "its `webhook-id`, as it is listed"),
        _path("upload", Annotated[str, Meta(min_length=1)], "as `Location` named it"),
        _path("dispatch", Annotated[str, Meta(min_length=1)], "the dispatch's id, a UUID"),
        _path("folder", Annotated[str, Meta(min_length=1)], "the folder below its user's; slashes stay as they are"),
        _path("path", Annotated[str, Meta(min_length=1)], "the file below its user's folder; slashes stay as they are"),
    )
}
"""What may stand in an address, by its name there."""

USER = _query("user", _Name, "whose; your own where it is absent")
SITE = _query("site", _Name, "of which site; for who runs the broker, and for the site itself")
REVISION = _query("revision", Annotated[int, Meta(ge=1, le=999_999_999)], "of the spec; the latest where it is absent")
ITEM_STATE = _query("state", ItemState, "only items in this state")
RESULT_STATE = _query("state", Literal["done", "held"], "only items in this state")
LISTED_STATE = _query("state", ListedState, "only launchers in this state")
ITEM_CURSOR = _query(
    "cursor", Annotated[str, Meta(pattern="^[0-9]{1,15}-[0-9]{1,15}$")], "`next_cursor` of the page before"
)
CALLBACK_STATE = _query("state", CallbackState, "only callbacks in this state")
CALLBACK_CURSOR = _query(
    "cursor",
    Annotated[str, Meta(pattern="^([0-9]{1,16}:)?[0-9]{1,18}-[0-9]{1,18}$")],
    "`next_cursor` of the page before, of the same state",
)
LAUNCHER_CURSOR = _query("cursor", Annotated[str, Meta(pattern="^[01]-.*$")], "`cursor` of the page before")
FOLDER_CURSOR = _query("cursor", Annotated[str, Meta(max_length=1_024)], "`next_cursor` of the page before")
DEEP = _query("recursive", Literal["0", "1"], "1: every file below, however deep, and no folders")
LIMIT = _query("limit", Annotated[int, Meta(ge=1, le=_MAX_LIMIT)], "most on one page; 100 where it is absent")
AFTER = _query("after", Annotated[str, Meta(pattern="^[0-9]{1,18}-[0-9]{1,18}$")], "as `Last-Event-ID`")
SKIP_BAD = _query("skip_bad", Literal["0", "1"], "1: bad lines are left out and told, the others are pushed")
DRY_RUN = _query("dry_run", Literal["0", "1"], "1: all is checked, nothing is pushed; the answer shows where files go")
PART = _query(
    "part",
    Annotated[int, Meta(ge=0, le=999_999_999)],
    "of a push that goes up in several requests: which of its parts this one begins with; "
    "each part's key is then that of the push, `/` and its number",
)
FOLLOW = _query("follow", Literal["0", "1"], "1: newline-delimited JSON does not end at the last event there is")
FOLLOW_RESULTS = _query("follow", Literal["0", "1"], "1: what settles is told as it settles, without end")
RESULTS_AFTER = _query(
    "after", Annotated[str, Meta(pattern="^[0-9]{1,15}-[0-9]{1,15}$")], "with `follow`: the `position` to go on from"
)

LAST_EVENT_ID = header("Last-Event-ID", AFTER.kind, "the event to go on after; from the first one where it is absent")
IDEMPOTENCY_KEY = header(
    "Idempotency-Key", _Printable, "the same key and body get the first answer again; with another body it is refused"
)
RANGE = header("Range", Annotated[str, Meta(pattern="^bytes=[0-9]*-[0-9]*$")], "a part of the bytes: RFC 9110")
CREATE_ONLY = header("If-None-Match", Literal["*"], "write only what is not there yet")
_Digests = Annotated[str, Meta(pattern=r"^sha-256=:[A-Za-z0-9+/]{43}=:$")]
IF_NONE_MATCH = header("If-None-Match", str, "the `ETag` that is known: unchanged bytes are not sent again")
REPR_DIGEST = header("Repr-Digest", _Digests, "of the whole file's bytes: RFC 9530")
CONTENT_DIGEST = header("Content-Digest", _Digests, "the same")

RETRY_AFTER = header("Retry-After", Annotated[int, Meta(ge=0)], "seconds")
REQUEST_ID = header("X-Request-Id", str, "what the operator looks for in the log")
