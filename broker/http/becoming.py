"""What an upload in parts becomes when its last byte came: an image, a file, or a part that waits for the others."""

from collections.abc import Callable, Mapping
from typing import assert_never

from broker.domain.errors import Rejected
from broker.domain.paths import parse_file_path
from broker.domain.scopes import Authority
from broker.files.upload import Purpose, Upload
from broker.files.uploads import Wanted
from broker.http import tus
from broker.http.call import Call, allow
from broker.http.images import become_image, room_left
from broker.wire.names import Digest, UserName
from broker.wire.problems import ProblemCode


def wanted(call: Call, digest: Digest, size_bytes: int, metadata: Mapping[str, str], concat: str | None) -> Wanted:
    """Read what an upload is to become, and check the right to write that file.

    Raises:
        Rejected: `bad_request`, or `forbidden` as `allow`.
        BadPath: the file's name is none.
    """
    if concat is not None and concat != "partial" and not concat.startswith("final;"):
        raise Rejected(ProblemCode.BAD_REQUEST, "Upload-Concat is `partial`, or `final;` and the parts' addresses")
    file = tus.file(metadata)
    if file is None:
        if concat is not None:
            raise Rejected(ProblemCode.BAD_REQUEST, "parts make a file: send `file` in Upload-Metadata with each")
        return Wanted(digest, size_bytes)
    allow(call.who, Authority.FILE_WRITE, (file.user, *file.segments))
    purpose = Purpose.PART if concat == "partial" else Purpose.FILE
    return Wanted(digest, size_bytes, purpose, str(file), "create-only" in metadata)


async def room_check(call: Call, wanted: Wanted, *, resume: bool) -> Callable[[int], None]:
    """Check the room for a file or a part; return what checks that for an image, beside all other uploads.

    What is gone on with was asked for when it was begun, and is one of those that are open.

    Raises:
        Rejected: `quota_exceeded`, `too_large`, or `already_exists`.
    """
    services, user = call.services, UserName(call.who.subject)
    if wanted.purpose is Purpose.IMAGE:
        return (await room_left(services, user, wanted.digest)).check
    path = parse_file_path(wanted.file)
    there = await services.files.find(path) if wanted.is_create_only else None
    # What a part's file is to have is not known before they are joined; whose bytes are there already sends none.
    if there is not None and (wanted.purpose is Purpose.PART or there.digest != wanted.digest):
        raise Rejected(ProblemCode.ALREADY_EXISTS, f"{path} exists already and is not replaced")
    if resume and await services.uploads.begun(user, wanted) is not None:
        return lambda _: None
    open_bytes = sum(each.size_bytes for each in await services.uploads.unfinished(user))
    await services.files.check_room(path.user, wanted.size_bytes, beside_bytes=open_bytes)
    return lambda _: None


async def is_there(call: Call, wanted: Wanted) -> bool:
    """Tell whether what a finished upload became is there still."""
    if wanted.purpose is Purpose.FILE:
        stored = await call.services.files.find(parse_file_path(wanted.file))
        return stored is not None and stored.digest == wanted.digest
    return await call.services.store.image_size(UserName(call.who.subject), wanted.digest) is not None


async def become(call: Call, upload: Upload, name: str) -> None:
    """Prove a complete upload that is taken, and make of it what it was begun for.

    Raises:
        Rejected: `digest_mismatch`, `quota_exceeded`, `already_exists`; the upload is gone.
        Unavailable: `upload_busy`: there is more to prove; repeating the request goes on.
    """
    services, user, record = call.services, UserName(call.who.subject), upload.record
    try:
        await upload.prove()
        match record.purpose:
            case Purpose.PART:
                return
            case Purpose.FILE:
                path = parse_file_path(record.file)
                allow(call.who, Authority.FILE_WRITE, (path.user, *path.segments))
                await services.files.adopt(
                    path, upload.path, upload.size_bytes, upload.digest, create_only=record.is_create_only
                )
            case Purpose.IMAGE:
                await become_image(services, user, upload.digest, upload.path, upload.size_bytes)
            case _:
                assert_never(record.purpose)
    except Rejected:
        await services.uploads.discard(user, name)
        raise
    await services.uploads.finish(user, name)
