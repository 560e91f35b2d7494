import asyncio
import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from aiohttp import web

from broker.cli import results
from broker.cli.acting import Acting
from broker.cli.downloads import download_all
from broker.cli.result_formats import csv_heading, csv_rows
from broker.client.files import Files
from broker.client.researcher import Researcher
from broker.client.session import Session
from broker.wire.files import ResultLine
from broker.wire.items import OutputFile, Reason
from broker.wire.names import OwnedName, UserName
from broker.wire.states import ItemState
from tests.support.api import digest_of
from tests.unit.client.test_session import serving

CONTENT = b"a result"
GOOD = digest_of(CONTENT)


def test_a_row_of_csv_is_no_formula_and_moves_no_terminal() -> None:
    reason = Reason(code="program_failed", sentence='a, "b"\x1b[2J\nc')
    line = ResultLine(
        item="alice/render/1", state=ItemState.HELD, name="=1+1", exit_code=-9, reason=reason, outputs=[output("@x")]
    )
    [row] = csv.DictReader(io.StringIO(csv_heading() + csv_rows(line)))
    assert (row["name"], row["exit_code"], row["output"]) == ("'=1+1", "-9", "'@x")
    assert row["reason"] == 'a, "b"^[[2J⏎c'
    assert csv_rows(msgspec.structs.replace(line, outputs=[])).count(",,,,") == 1


def served(request: web.Request) -> web.Response:
    return web.Response(body=CONTENT) if request.path == "/there" else web.Response(status=404)


def output(name: str, path: str = "/there", digest: str = GOOD, size_bytes: int = len(CONTENT)) -> OutputFile:
    return OutputFile(name=name, size_bytes=size_bytes, digest=digest, url=path)


def test_a_fault_of_one_output_is_its_own_and_the_others_are_downloaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = {
        "junk": output("junk", digest="junk"),
        "negative": output("negative", size_bytes=-5),
        "gone": output("gone", "/gone"),
        "../up": output("../up"),
        "mine/below": output("mine/below"),
        "[x]": output("[x]", digest=digest_of(b"other")),
    }
    outputs = [*faults.values(), output("good"), output("also good")]
    lines = [ResultLine(item="alice/render/1", state=ItemState.DONE, outputs=outputs)]
    (tmp_path / "1").mkdir()
    (tmp_path / "1/mine").write_bytes(b"")

    async def download() -> int:
        async with serving(served) as url, Session(url) as session:
            acting = Acting(session, Researcher(session), Files(session), "alice")
            return await download_all(acting, lines, tmp_path, force=False)

    assert asyncio.run(download()) == 1

    assert sorted(path.name for path in (tmp_path / "1").iterdir()) == ["also good", "good", "mine"]
    told = capsys.readouterr().err
    assert "2 files downloaded to" in told
    assert "6 files were not downloaded" in told
    for name in faults:
        assert f"alice/render/1, {name}: " in told
    assert "'junk' is no digest" in told
    assert "/gone answered 404" in told


async def test_what_was_told_as_held_is_told_again_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    released = asyncio.Event()

    async def follow(*_: object) -> AsyncIterator[ResultLine]:
        yield ResultLine(item="alice/render/1", state=ItemState.HELD)
        await released.wait()
        yield ResultLine(item="alice/render/1", state=ItemState.DONE)
        await asyncio.Event().wait()

    async def stream(_: object) -> SimpleNamespace:
        # Settled by now, and its line is on its way.
        asyncio.get_running_loop().call_later(0.05, released.set)
        return SimpleNamespace(counts={ItemState.DONE: 1})

    monkeypatch.setattr(results, "follow_results", follow)
    monkeypatch.setattr(results, "_QUIET_S", 0.01)
    acting = cast("Acting", SimpleNamespace(session=None, researcher=SimpleNamespace(stream=stream)))
    monkeypatch.setattr(results, "_LAST_LOOKS", 1_000)
    told = [line.state async for line in results._until_settled(acting, OwnedName(UserName("alice"), "render"))]
    assert told == ["held", "done"]
