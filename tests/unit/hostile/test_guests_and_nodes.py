"""What a guest, its disk, an image or a batch system tells a launcher, and a launcher a guest."""

import asyncio
import io
import json
import os
import shlex
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest.mock import patch

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from broker.wire.dispatches import StagedItem
from broker.wire.exchange import ITEM_FILE, ExchangeItem
from broker.wire.port import MAX_LINE_BYTES, Hello, Log, Welcome
from guest.steps.port import Port
from guest.steps.share import Share, ShareUnreadable
from launcher.batch import pbs, slurm
from launcher.batch.condor_events import followed
from launcher.exchange import disks
from launcher.exchange import port as launcher_port
from launcher.exchange.folder import ItemFault, environment, program
from launcher.exchange.outputs import MAX_NAME_BYTES, Selection, harvest_folder, parse_result
from launcher.exchange.port import LOG_LIMIT_BYTES, LOG_LINE_CHARACTERS, GuestPort
from launcher.exchange.printable import printable
from launcher.exchange.rootdisk import harvest_tar
from launcher.images.errors import BadImage
from launcher.images.inspect import MAX_VIRTUAL_BYTES, Limits, virtual_size
from launcher.images.source import Image
from tests.unit.hostile.inputs import blobs, fuzz, json_bodies, json_values, texts, wire_texts

STAGED = StagedItem(run="/x", as_user="root", output_files=["*"], output_mib=1)
WELCOME = Welcome(ticket="vt1.x", broker="http://b", now="2026-01-01T00:00:00Z", entropy=b"e" * 32)
_messages = st.one_of(
    st.dictionaries(st.sampled_from(["type", "client", "text", "in_ms", "reason", "ticket"]), json_values),
    st.builds(lambda text: {"type": "log", "text": text}, wire_texts),
    st.builds(lambda text: {"type": "hello", "client": text}, wire_texts),
).map(lambda said: json.dumps(said).encode())
lines = st.one_of(_messages, json_bodies, blobs)


@fuzz
@given(texts, st.integers(1, 100))
def test_what_is_printed_of_a_guest_is_one_line_of_plain_characters(text: str, limit: int) -> None:
    line = printable(text, limit)

    assert line.isprintable()
    assert len(line) <= limit
    assert line == text or not text.isprintable() or len(text) > limit


@fuzz
@given(st.lists(lines, max_size=6))
async def test_a_guest_may_say_anything_to_its_port_and_gets_a_welcome_for_each_hello(said: list[bytes]) -> None:
    logged: list[str] = []
    written = await _told(b"".join(line + b"\n" for line in said), logged)

    whole = b"".join(line + b"\n" for line in said).split(b"\n")
    meant = [message for line in whole if (message := _message(line)) is not None]
    assert written.count(b'"ticket"') == sum(isinstance(message, Hello) for message in meant)
    assert len(logged) == sum(isinstance(message, Log) for message in meant)
    assert all(line.isprintable() and len(line) <= LOG_LINE_CHARACTERS for line in logged)


async def test_a_guest_that_never_ends_its_line_or_its_log_costs_a_line_and_a_megabyte() -> None:
    logged: list[str] = []
    endless = b"x" * (MAX_LINE_BYTES * 8)
    line = json.dumps({"type": "log", "text": "y" * 60_000}).encode() + b"\n"

    await _told(endless + b"\n" + line * (2 * LOG_LIMIT_BYTES // len(line)), logged)

    assert 0 < len(logged) <= LOG_LIMIT_BYTES // len(line)


@fuzz
@given(st.lists(lines, max_size=4))
@example([b"[" * 30_000])
@example([b'{"type":"welcome","ticket":"\xff"}'])
def test_a_guest_passes_over_whatever_is_no_word_of_its_launchers(said: list[bytes]) -> None:
    descriptor = os.memfd_create("port")
    with os.fdopen(descriptor, "w+b", buffering=0) as device:
        device.write(b"".join(line + b"\n" for line in said) + msgspec.json.encode(WELCOME) + b"\n")
        device.seek(0)
        port = Port(descriptor)
        heard = []
        for _ in range(64):
            heard += port._read_messages(0.0)
            assert len(port._incoming) <= MAX_LINE_BYTES

    assert heard[-1:] == [WELCOME]


@fuzz
@given(
    st.one_of(blobs, json_bodies, st.dictionaries(wire_texts, json_values).map(lambda said: json.dumps(said).encode()))
)
@example(b"[" * 30_000)
@example(b'{"sentence": "\xff"}')
def test_a_result_of_a_guest_is_read_or_is_the_items_fault(content: bytes) -> None:
    try:
        parse_result(content)
    except ItemFault as fault:
        assert fault.sentence.isprintable()


@fuzz
@given(texts, st.integers(0, 1 << 40))
@example("a\udcff", 1)
@example("../x", 1)
def test_the_name_of_an_output_is_one_that_an_address_may_carry(name: str, size_bytes: int) -> None:
    try:
        assert Selection(STAGED).takes(name, size_bytes)
    except ItemFault as fault:
        assert fault.sentence.isprintable()
        return
    assert not {"", ".", ".."} & set(name.split("/"))
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert size_bytes <= STAGED.output_mib << 20
    assert all(" " <= char != "\x7f" for char in name)


@fuzz
@given(st.dictionaries(st.sampled_from(["result.json", "log", "output", "output/a", "output/..b"]), blobs))
def test_the_folder_of_a_guest_is_harvested_or_is_the_items_fault(files: dict[str, bytes]) -> None:
    with _folder() as out:
        for name, content in sorted(files.items()):
            if name == "output/a" and (out / "output").is_file():
                continue
            path = out / name
            if not path.parent.is_file():
                path.parent.mkdir(exist_ok=True)
                if not path.is_dir():
                    path.write_bytes(content)
        try:
            harvest = harvest_folder(out, STAGED)
        except ItemFault:
            return
        assert all(output.name.startswith(("a", "..b")) for output in harvest.outputs)


_fields = st.dictionaries(
    st.sampled_from(
        ["path", "size", "mtime", "uid", "linkpath", "GNU.sparse.map", "GNU.sparse.major", "GNU.sparse.size"]
    ),
    st.one_of(st.sampled_from(["-1", "x", "1,2", "1", "9" * 30, "../../x", "/etc/passwd", ""]), wire_texts),
    max_size=3,
)
_members = st.tuples(
    st.sampled_from(["result.json", "./result.json", "log", "output/a", "output/../../x", "/output/b", "output/c"]),
    blobs,
    _fields,
    st.sampled_from([tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, b"S", b"9"]),
)


@fuzz
@given(st.lists(_members, max_size=4), st.lists(st.tuples(st.integers(0, 4_000), st.binary(max_size=12)), max_size=2))
@example([("output/a", b"x", {"GNU.sparse.map": "x,1"}, tarfile.REGTYPE)], [])
@example([("output/a", b"x", {}, tarfile.REGTYPE)], [(124, b"\xff" * 12)])
@example([("log", b"x", {}, tarfile.REGTYPE)], [(124, b"\xff" * 12)])
def test_what_a_guest_packed_is_harvested_below_our_folder_or_is_the_items_fault(
    members: list[tuple[str, bytes, dict[str, str], bytes]], changes: list[tuple[int, bytes]]
) -> None:
    packed = bytearray(_tar(members))
    for at, put in changes:
        packed[at : at + len(put)] = put
    with _folder() as folder:
        (folder / "into").mkdir()
        (folder / "out.tar").write_bytes(packed)
        try:
            harvest = harvest_tar(folder / "out.tar", folder / "into", STAGED)
        except ItemFault as fault:
            assert fault.sentence.isprintable()
            return
        finally:
            assert {path.name for path in folder.iterdir()} <= {"into", "out.tar"}
        for output in harvest.outputs:
            os.close(output.open())
            assert (folder / "into" / output.at).stat().st_size == output.size_bytes


class _Said(NamedTuple):
    status: int
    out: bytes
    err: bytes


_headers = st.one_of(
    st.binary(max_size=120),
    st.binary(max_size=112).map(lambda rest: b"QFI\xfb\0\0\0\x03" + rest),
    st.binary(max_size=112).map(lambda rest: b"QFI\xfb\0\0\0\x03" + b"\0" * 12 + rest),
)
_infos = st.one_of(
    blobs,
    json_bodies,
    st.dictionaries(st.sampled_from(["virtual-size", "backing-filename", "encrypted", "format"]), json_values).map(
        lambda said: json.dumps(said).encode()
    ),
    st.just(b'{"virtual-size": 1048576}'),
)


@fuzz
@given(_headers, _infos, st.sampled_from([0, 1, 137, 139]), blobs)
@example(b"QFI\xfb\0\0\0\x02" + b"\0" * 100, b'{"virtual-size": -1}', 0, b"")
@example(b"QFI\xfb\0\0\0\x02" + b"\0" * 100, b'{"virtual-size": 1, "backing-filename": "\xff"}', 0, b"")
async def test_an_image_has_a_size_or_is_refused(head: bytes, out: bytes, status: int, err: bytes) -> None:
    async def run(words: object, limits: Limits) -> _Said:
        return _Said(0 if status == 137 else status, out, err)

    image = Image("sha256:" + "a" * 64, len(head), "qcow2")
    with _folder() as folder:
        (folder / "image").write_bytes(head)
        descriptor = os.open(folder / "image", os.O_RDONLY)
        try:
            size = await virtual_size(run, descriptor, folder / "image", image)
        except BadImage:
            return
        finally:
            os.close(descriptor)
    assert 0 <= size <= MAX_VIRTUAL_BYTES
    assert head.startswith(b"QFI\xfb")
    assert status in {0, 137}


@fuzz
@given(
    st.lists(
        st.one_of(
            blobs,
            st.builds("/{0}/{1}/0/0/{2}/{3}/".format, texts, texts, texts, texts).map(
                lambda line: line.encode("utf-8", "surrogatepass")
            ),
        )
    )
)
@example([b"/1/100644/0/0/\xff\xfe/5/"])
def test_a_line_of_debugfs_names_a_file_or_none(said: list[bytes]) -> None:
    for line in said:
        found = disks._LINE.fullmatch(line)
        if found is not None:
            assert b"/" not in found[3]
            int(found[1]), int(found[2], 8), int(found[4] or 0)


_staged = st.builds(
    StagedItem,
    run=wire_texts,
    as_user=st.just("root"),
    output_files=st.just(["*"]),
    output_mib=st.just(1),
    script=wire_texts,
    params=st.dictionaries(wire_texts, wire_texts, max_size=3),
    input_name=st.one_of(st.none(), wire_texts),
)


@fuzz
@given(_staged, wire_texts)
def test_no_word_of_an_item_leaves_its_quotes_in_the_guests_shell(staged: StagedItem, item: str) -> None:
    said = shlex.split(environment(item, staged))
    assert said[0] == f"VMBROKER_ITEM={item}"
    assert {word.partition("=")[2] for word in said[3:]} <= set(staged.params.values())
    try:
        text = program(item, staged)
    except ItemFault as fault:
        assert fault.sentence.isprintable()
        return
    command = shlex.split(text.partition("exec ")[2])
    assert len(command) == (len(shlex.split(staged.run)) or 2 + (staged.input is not None))


@fuzz
@given(
    st.one_of(blobs, json_bodies, st.dictionaries(wire_texts, json_values).map(lambda said: json.dumps(said).encode()))
)
def test_an_item_in_a_share_is_read_or_refused(content: bytes) -> None:
    with _folder() as folder:
        for part in ("in", "out"):
            (folder / part).mkdir()
        (folder / "in" / ITEM_FILE).write_bytes(content)
        try:
            work = Share(folder).read_work()
        except ShareUnreadable:
            return
    assert work.item == msgspec.json.decode(content, type=ExchangeItem).item


@fuzz
@given(st.lists(st.one_of(texts, st.just("1"), st.just("\u00b2"), st.just("RUNNING")), min_size=8, max_size=8))
@example(["1", "t", "PENDING", "\u00b2", "\u0663", "n", "key:x", "r"])
def test_a_line_of_squeue_is_a_job(words: list[str]) -> None:
    job = slurm._job("|".join(word.replace("|", "") for word in words))
    assert job.submitted_s is None or job.submitted_s >= 0


@fuzz
@given(
    st.dictionaries(
        st.sampled_from(["job_state", "exit_status", "qtime", "ctime", "stime", "output_path", "exec_host", "comment"]),
        st.one_of(texts, st.sampled_from(["--5", "\u00b2", "F", "R", "Mon Jan  1 00:00:00 0001", "9" * 5_000, "-"])),
    )
)
@example({"job_state": "F", "exit_status": "--5"})
@example({"qtime": "Mon Jan  1 00:00:00 0001"})
@example({"qtime": "9" * 5_000})
def test_a_record_of_qstat_is_a_job(told: dict[str, str]) -> None:
    pbs._job("1", "t", told)


@fuzz
@given(texts)
def test_any_text_of_qstat_is_records_or_none(text: str) -> None:
    list(pbs._records(text))
    list(pbs._records(f"Job Id: {text}\n    a = {text}\n"))


@fuzz
@given(
    st.lists(st.tuples(st.sampled_from(["SUBMIT", "EXECUTE", "JOB_HELD", "JOB_TERMINATED", "X"]), texts), max_size=5)
)
def test_any_notes_of_condor_are_read(events: list[tuple[str, str]]) -> None:
    at_s = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    told = [{"id": "1.0", "type": kind, "at_s": at_s, "LogNotes": text, "HoldReason": text} for kind, text in events]
    assert set(followed({}, "tag", told)) <= {"1.0"}


def _message(line: bytes) -> Hello | Log | None:
    try:
        message: Hello | Log = launcher_port._decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return message


async def _told(said: bytes, logged: list[str]) -> bytes:
    """Let a launcher's end of a port hear it all, to the end; return what it answers."""
    with (
        _folder() as folder,
        patch.object(launcher_port, "HELLO_PAUSE_S", 0.0),
        patch.object(launcher_port, "PACE_BYTES_PER_S", 1 << 40),
    ):
        answers: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(said)
            writer.write_eof()
            answers.set_result(await reader.read())
            writer.close()

        server = await asyncio.start_unix_server(talk, folder / "port", limit=1 << 24)
        async with asyncio.timeout(30), server:
            async with GuestPort(folder / "port", on_log=logged.append) as port:
                await port.serve(lambda: WELCOME)
            return await answers


def _tar(members: list[tuple[str, bytes, dict[str, str], bytes]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, fields, kind in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.pax_headers = kind, "output/a", fields
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="vf-", dir="/tmp") as name:
        yield Path(name)
