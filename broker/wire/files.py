"""Files, images and results: what the broker says of bytes it keeps."""

from broker.wire.items import ItemView, OutputFile, Reason
from broker.wire.kinds import FromPerson, Message
from broker.wire.leases import SignedUrl
from broker.wire.states import ItemState


class FileView(Message, frozen=True, kw_only=True):
    """A file of the file service: `file` is its name as an item's input, `url` where it can be had with a token."""

    file: str
    size_bytes: int
    digest: str
    url: str


class AnnounceFile(FromPerson, frozen=True, kw_only=True):
    """`POST /v1/files/USER/PATH`: a file before it is sent; `digest` as `sha256:…`. `create_only`: replace nothing."""

    size_bytes: int
    digest: str
    create_only: bool = False


class AnnouncedFile(Message, frozen=True, kw_only=True):
    """What to do with an announced file: nothing where it is there already, as `file` tells; else send it by `upload`
    and announce it again; where there is neither, PUT it to the broker.
    """

    file: FileView | None = None
    upload: SignedUrl | None = None


class EntryView(Message, frozen=True, kw_only=True):
    """A file in a listing, or a folder: that has a name which ends with a slash, and neither size nor digest.

    `name` is below the folder that is listed; `modified_at` of a folder is its newest file's.
    """

    name: str
    file: str
    modified_at: str
    size_bytes: int | None = None
    digest: str | None = None


class FolderView(Message, frozen=True, kw_only=True):
    """One page of a folder, in the order of names; the next one begins after `next_cursor`, where there is one."""

    folder: str
    entries: list[EntryView]
    next_cursor: str | None = None


class Share(FromPerson, frozen=True, kw_only=True):
    """What to share: reading, or, with `is_write`, making the file once. `life_s` is at most 30 days."""

    life_s: int = 604_800
    is_write: bool = False


class ShareView(Message, frozen=True, kw_only=True):
    """A signed address: whoever has it may do `method` there until `ends_at`."""

    url: str
    method: str
    ends_at: str


class ResultLine(Message, frozen=True, kw_only=True):
    """One line of `GET …/results`: a done or held item. An output's `url` can be had with a token that may read it.

    `position`, where they are followed: going on after it misses none, and tells again those that settled at its times.
    """

    item: str
    state: ItemState
    url: str | None = None
    name: str | None = None
    params: dict[str, str] = {}
    inputs: dict[str, str] = {}
    exit_code: int | None = None
    reason: Reason | None = None
    outputs: list[OutputFile] = []
    settled_at: str | None = None
    position: str | None = None

    @classmethod
    def of(cls, item: ItemView, outputs: list[OutputFile]) -> "ResultLine":
        """Return what a settled item came to; its outputs where they can be had."""
        return cls(
            item=item.item,
            state=item.state,
            url=item.url,
            name=item.name,
            params=item.params,
            inputs=item.inputs,
            exit_code=item.exit_code,
            reason=item.reason,
            outputs=outputs,
            settled_at=item.settled_at,
        )
