"""An image that somebody else serves: looked at by its first bytes, never downloaded here."""

import re
from typing import Literal

import aiohttp

from broker.cli.acting import Acting
from broker.cli.disks_given import Remote
from broker.cli.exits import Failed
from broker.client.errors import CallError
from broker.desktop.formats import HEAD_BYTES, format_of, read_qcow2
from broker.wire.machines import Disk

_TOTAL = re.compile(r"bytes 0-[0-9]+/([0-9]{1,15})")
_PARTIAL = 206


async def look_at_remote(acting: Acting, target: str, remote: Remote) -> Disk:
    """Ask for an image's size and format; its digest is what its giver says, and what every node checks.

    Raises:
        Failed: it cannot be used, with why.
    """
    what = f"disk {target}: {remote.url}"
    headers = {"Range": f"bytes=0-{HEAD_BYTES - 1}"}
    try:
        async with acting.session.open("GET", remote.url, headers=headers) as answer:
            size_bytes = _size_bytes(answer)
            head = await _head(answer)
    except CallError as error:
        raise Failed(f"disk {target}: {error}: is its address right, and does its server run?") from error
    if size_bytes is None:
        raise Failed(f"{what} is served without its size: give an address of a plain file")
    return Disk(digest=remote.digest, size_bytes=size_bytes, format=_format(what, head), url=remote.url)


def _size_bytes(answer: aiohttp.ClientResponse) -> int | None:
    if answer.status != _PARTIAL:
        return answer.content_length
    match = _TOTAL.fullmatch(answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


async def _head(answer: aiohttp.ClientResponse) -> bytes:
    """Read the first bytes and no more: a server that knows no ranges sends everything."""
    head = b""
    while len(head) < HEAD_BYTES and (chunk := await answer.content.read(HEAD_BYTES - len(head))):
        head += chunk
    return head


def _format(what: str, head: bytes) -> Literal["qcow2", "raw"]:
    match format_of(what, head):
        case "raw":
            return "raw"
        case "qcow2":
            header = read_qcow2(what, head)
            if header.has_backing_file or header.has_data_file or header.is_encrypted:
                raise Failed(f"{what} is no whole image: it needs another file, or a key, that no node has")
            return "qcow2"
        case other:
            raise Failed(f"{what} has the format {other}, and nodes take qcow2 and raw: download it and give the file")
