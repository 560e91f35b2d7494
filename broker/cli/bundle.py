"""One archive of everything that was said of an item, for a site's operator to read: nothing in it opens a door."""

import io
import os
import sys
import tarfile
import time
from pathlib import Path

import msgspec

from broker.cli.acting import Acting
from broker.cli.exits import BadUsage, Failed
from broker.cli.redaction import Redaction, without_values
from broker.cli.said import Said, verdict_of
from broker.client.events import read
from broker.domain.specs import params_of
from broker.domain.why import sentence_of
from broker.wire.events import Event
from broker.wire.names import ItemRef

_STDOUT = "-"


async def write_bundle(acting: Acting, ref: ItemRef, said: Said, target: str) -> None:
    """Write a tar.gz to a new file, or to stdout for `-`.

    Raises:
        BadUsage: stdout is a terminal.
        Failed: the file is there already.
    """
    if target == _STDOUT and sys.stdout.isatty():
        raise BadUsage("--bundle - writes an archive to stdout: send it to a file or another program")
    archive = _archive(f"{ref}".replace("/", "-"), await _members(acting, ref, said))
    if target == _STDOUT:
        sys.stdout.buffer.write(archive)
        return
    try:
        descriptor = os.open(Path(target), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Failed(f"{target} exists already: name another file") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(archive)


async def _members(acting: Acting, ref: ItemRef, said: Said) -> dict[str, bytes | None]:
    spec = (await acting.researcher.stream(ref.stream, said.item.revision)).spec
    redaction = Redaction(params_of(spec, said.item.params).values())
    item = msgspec.structs.replace(said.item, params=without_values(said.item.params))
    why = f"{sentence_of(item)}\nverdict on its last vm: {verdict_of(item)}\n"
    texts = {
        "why.txt": why.encode(),
        "output.log": said.output,
        "console.log": said.console,
        "domain.xml": said.domain_xml,
    }
    return {
        "item.json": _json(item, redaction),
        "node.json": _json(item.vm, redaction) if item.vm else None,
        **{name: None if text is None else redaction.of(text) for name, text in texts.items()},
        "events.ndjson": await _events(acting, ref, redaction),
    }


async def _events(acting: Acting, ref: ItemRef, redaction: Redaction) -> bytes:
    """Return the item's events, one a line; the stream's log holds a bounded number of them."""
    lines = [
        msgspec.json.encode(redaction.of_builtins(msgspec.to_builtins(event))) + b"\n"
        async for event in read(acting.session, ref.stream)
        if isinstance(event, Event) and event.subject == str(ref)
    ]
    return b"".join(lines)


def _archive(folder: str, members: dict[str, bytes | None]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, kept in members.items():
            if kept is None:
                continue
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size, info.mode, info.mtime = len(kept), 0o644, int(time.time())
            archive.addfile(info, io.BytesIO(kept))
    return content.getvalue()


def _json(value: msgspec.Struct, redaction: Redaction) -> bytes:
    return msgspec.json.format(msgspec.json.encode(redaction.of_builtins(msgspec.to_builtins(value))), indent=2) + b"\n"
