"""An item by the files of a folder, as the client works on it once the folder is mounted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guest.exits import Exit
from guest.shared import work_in
from guest.steps.mount import CannotMount, mount_share
from guest.steps.stopping import StopOrders
from tests.integration.guest.edge import CURRENT_ACCOUNT


def shared_item(folder: Path, **changes: Any) -> Path:
    """Lay out what a launcher does before it starts the vm."""
    (folder / "in" / "input").mkdir(parents=True)
    (folder / "out" / "output").mkdir(parents=True)
    item = {
        "version": 1,
        "item": "alice/render/17",
        "run": "true",
        "as_user": CURRENT_ACCOUNT,
        "params": {},
        "output_files": ["*"],
        "input": None,
        "run_ms": 60_000,
        "output_mib": 1,
        "of a later version": True,
        **changes,
    }
    (folder / "in" / "item.json").write_text(json.dumps(item))
    return folder


def result_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "result.json").read_text())
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_an_item_goes_from_the_shared_input_to_the_shared_output(tmp_path: Path) -> None:
    folder = shared_item(
        tmp_path,
        run="",
        input="frame 1.txt",
        inputs={"dark": "d k"},
        params={"my-seed": "two words"},
    )
    (folder / "in" / "input" / "frame 1.txt").write_bytes(b"abc" * 100_000)
    (folder / "in" / "inputs" / "dark").mkdir(parents=True)
    (folder / "in" / "inputs" / "dark" / "d k").write_text("the dark")
    (folder / "in" / "script").write_text(
        '[ "$(cat "$VMBROKER_INPUT_DARK")" = "the dark" ] &&\n'
        '[ "$PWD/frame 1.txt" = "$1" ] && [ "$VMBROKER_PARAM_MY_SEED" = "two words" ] && mkdir "$2/sub" &&\n'
        'tr a-z A-Z <"$1" >"$2/sub/out.txt"; echo >"$1"; ln -s /etc/passwd "$2/link"; echo said; id -un\n'
    )
    said: list[str] = []

    assert await work_in(folder, said.append, StopOrders()) == Exit.COMPLETED, said

    result = result_of(folder)
    [output] = result["outputs"]
    assert (result["exit_code"], output["name"], output["size_bytes"]) == (0, "sub/out.txt", 300_000)
    assert (folder / "out" / "output" / "sub" / "out.txt").read_bytes() == b"ABC" * 100_000
    assert (folder / "out" / "log").read_text() == f"said\n{CURRENT_ACCOUNT}\n"
    assert names(folder / "out") == ["log", "output", "result.json", "started"]
    assert names(folder / "out" / "output") == ["sub"]
    assert result["facts"]["input_bytes"] == "300000"
    assert int(result["facts"]["client_peak_rss_bytes"]) > 1_000_000
    assert (folder / "in" / "input" / "frame 1.txt").stat().st_size == 300_000, "what is the program's is a copy"


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        (
            {"run": "sh -c 'echo why >&2; exit 3'"},
            Exit.ITEM_FAILED,
            (3, "program_failed", "the program exited with status 3: why"),
        ),
        (
            {"run": "sh -c 'exit 75'"},
            Exit.GIVEN_BACK,
            (75, "program_failed", "the program exited with status 75, which gives the item back"),
        ),
        (
            {"as_user": "nobody-here"},
            Exit.ITEM_FAILED,
            (
                None,
                "program_missing",
                "the image has no account 'nobody-here', as which the stream wants its program to run",
            ),
        ),
        (
            {"input": "absent"},
            Exit.ITEM_FAILED,
            (
                None,
                "input_unavailable",
                "the input cannot be copied from the shared folder: No such file or directory",
            ),
        ),
        (
            {"run": "sleep 600", "run_ms": 1_000},
            Exit.ITEM_FAILED,
            (None, "run_timeout", "the run limit of 1 s was reached while running the program"),
        ),
    ],
)
async def test_a_failure_is_told_in_the_result(
    tmp_path: Path, changes: dict[str, Any], status: Exit, told: tuple[int | None, str, str]
) -> None:
    folder = shared_item(tmp_path, **changes)

    assert await work_in(folder, lambda _: None, StopOrders()) == status

    result = result_of(folder)
    assert (result["exit_code"], result["code"], result["sentence"]) == told


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: "),
        ("{", "cannot be read: "),
        (
            '{"version": 2, "item": "a/b/1", "run": "x", "as_user": "root", "output_files": [], '
            '"run_ms": 1, "output_mib": 1}',
            "has layout 2, this client knows 1",
        ),
    ],
)
async def test_a_folder_that_holds_no_item_is_left_without_a_sign_of_life(
    tmp_path: Path, content: str | None, sentence: str
) -> None:
    folder = shared_item(tmp_path)
    item = folder / "in" / "item.json"
    item.unlink() if content is None else item.write_text(content)
    said: list[str] = []

    assert await work_in(folder, said.append, StopOrders()) == Exit.NO_SHARE

    assert sentence in said[0]
    assert names(folder / "out") == ["output"]


def test_what_was_tried_is_told_when_there_is_no_share(tmp_path: Path) -> None:
    with pytest.raises(CannotMount) as caught:
        mount_share(["vmbroker", "vmbroker9p"], tmp_path / "share", timeout_s=0)
    for tried in ("vmbroker by virtiofs: ", "vmbroker by 9p: ", "vmbroker9p by 9p: "):
        assert tried in str(caught.value)


def test_an_item_by_share_imports_nothing_of_http() -> None:
    code = "import sys, guest.cli, guest.shared; print([name for name in ('aiohttp', 'yarl') if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout == "[]\n"
