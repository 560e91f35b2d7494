"""The client as a process of this host, from its hello to its last word."""

import hashlib
import os
import signal
from pathlib import Path

import pytest

from broker.client.session import Patience
from broker.wire.port import Welcome
from broker.wire.problems import ProblemCode
from broker.wire.states import FailureCode, Instruction
from guest.exits import Exit
from guest.pipeline import DELIVERING, work
from tests.integration.guest.edge import EdgeBroker, RunningGuest, eventually, started_guest


async def run_guest(broker: EdgeBroker, folder: Path) -> tuple[int, RunningGuest]:
    async with started_guest(broker.url, folder / "run") as guest:
        return await guest.wait(), guest


def is_alive(pid_file: Path) -> bool:
    """Tell whether the process runs; one that only waits for its parent to take note does not."""
    try:
        return Path("/proc", pid_file.read_text().strip(), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def script(folder: Path, text: str) -> Path:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\nset -eu\n{text}\n")
    path.chmod(0o755)
    return path


async def test_takes_an_item_from_its_input_to_its_uploaded_output(broker: EdgeBroker, tmp_path: Path) -> None:
    program = script(
        tmp_path,
        """
        [ "$PWD/frame 1.exr" = "$1" ] && [ "$1" = "$VMBROKER_INPUT" ] && [ "$2" = "$VMBROKER_OUTPUT" ]
        [ "$3" = alice/render/17 ] && [ "$4" = "two words" ] && [ "$VMBROKER_PARAM_MY_SEED" = "two words" ]
        [ -s "$MACHINEFEATURES/total_cpu" ] && [ -s "$JOBFEATURES/wall_limit_secs" ]
        [ -z "${PYTHONHOME-}${PYTHONPATH-}${LD_LIBRARY_PATH-}" ]
        mkdir "$2/sub"; tr a-z A-Z <"$1" >"$2/sub/out.txt"; ln -s /etc/passwd "$2/link"
        echo said; echo complained >&2
        """,
    )
    broker.input_bytes = b"abc" * 100_000
    broker.params = {"my-seed": "two words"}
    broker.run = f"{program} {{input}} {{output}} {{item}} {{param.my-seed}}"

    code, guest = await run_guest(broker, tmp_path)

    assert code == Exit.COMPLETED, guest.end.logs
    content = b"ABC" * 100_000
    assert broker.files == {"sub/out.txt": content}
    assert broker.completed is not None
    (output,) = broker.completed.outputs
    assert (output.name, output.size_bytes, output.url) == ("sub/out.txt", len(content), "file:alice/sub/out.txt")
    assert output.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert sorted(broker.completed.log.split()) == [b"complained", b"said"]
    assert broker.completed.facts["input_digest"] == f"sha256:{hashlib.sha256(broker.input_bytes).hexdigest()}"
    assert {
        "guest_os",
        "client",
        "fetch_ms",
        "run_ms",
        "upload_ms",
        "boot_to_claim_ms",
    } <= broker.completed.facts.keys()
    assert guest.end.logs[-1] == "ended with status 0: the item was completed"
    assert not any(secret in " ".join(guest.end.logs) for secret in ("vt1.", "vl1.", "signature"))


@pytest.mark.parametrize(
    ("run", "code", "sentence", "exit_code"),
    [
        ("sh -c 'echo why >&2; exit 3'", FailureCode.PROGRAM_FAILED, "the program exited with status 3: why", 3),
        ("sh -c 'kill -SEGV $$'", FailureCode.PROGRAM_FAILED, "the program was killed by SIGSEGV", None),
        (
            "/opt/none {item}",
            FailureCode.PROGRAM_MISSING,
            "the program /opt/none is not in the image, or the interpreter it names is not",
            None,
        ),
        (
            "/etc/passwd",
            FailureCode.PROGRAM_MISSING,
            "the program /etc/passwd cannot be started: Permission denied",
            None,
        ),
        (
            "true {input}",
            FailureCode.INPUT_UNAVAILABLE,
            "the stream's run line names {input}, but the item was pushed without one",
            None,
        ),
    ],
)
async def test_tells_why_the_program_failed(
    broker: EdgeBroker, tmp_path: Path, run: str, code: FailureCode, sentence: str, exit_code: int | None
) -> None:
    broker.run = run

    status, _ = await run_guest(broker, tmp_path)

    assert status == Exit.ITEM_FAILED
    assert broker.failed is not None
    assert (broker.failed.code, broker.failed.sentence, broker.failed.exit_code) == (code, sentence, exit_code)


async def test_a_program_that_ends_takes_with_it_what_it_left_running(broker: EdgeBroker, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    broker.run = f"sh -c 'sleep 600 & echo $! >{pid_file}; echo x >{{output}}/o'"

    status, _ = await run_guest(broker, tmp_path)

    assert status == Exit.COMPLETED
    assert not is_alive(pid_file)


async def test_exit_status_75_gives_the_item_back(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.run = "sh -c 'exit 75'"

    status, _ = await run_guest(broker, tmp_path)

    assert status == Exit.GIVEN_BACK
    assert broker.failed is not None
    assert broker.failed.exit_code == 75


async def test_an_input_that_is_not_there_is_named_without_its_signature(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.input_bytes, broker.input_status = b"", 404

    status, _ = await run_guest(broker, tmp_path)

    assert status == Exit.ITEM_FAILED
    assert broker.failed is not None
    assert broker.failed.code is FailureCode.INPUT_UNAVAILABLE
    assert broker.failed.sentence == "the input https://share.example/in/frame%201.exr answered 404 Not Found"


async def test_an_account_that_the_image_lacks_is_named(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.as_user = "no-such-account"

    assert (await run_guest(broker, tmp_path))[0] == Exit.ITEM_FAILED
    assert broker.failed is not None
    assert "the image has no account 'no-such-account'" in broker.failed.sentence


@pytest.mark.parametrize("first_line", ["#!/bin/sh", "echo no interpreter named"])
async def test_runs_the_script_that_was_sent_along(broker: EdgeBroker, tmp_path: Path, first_line: str) -> None:
    broker.input_bytes, broker.run = b"abc", ""
    broker.script = f"""{first_line}
        [ "$0" = "$VMBROKER_SCRIPT" ] && [ -x "$0" ] && [ "$(ls)" = "frame 1.exr" ] && cp "$1" "$2/copy"
        """

    assert (await run_guest(broker, tmp_path))[0] == Exit.COMPLETED
    assert broker.files == {"copy": b"abc"}
    assert broker.completed is not None
    assert int(broker.completed.facts["client_peak_rss_bytes"]) > 1_000_000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run a program as somebody else")
async def test_a_script_is_the_programs_own(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.as_user, broker.run, broker.script = "nobody", "stat -c '%U %a' {script}", "#!/bin/sh"

    assert (await run_guest(broker, tmp_path))[0] == Exit.COMPLETED
    assert broker.completed is not None
    assert broker.completed.log == b"nobody 755\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run a program as somebody else")
async def test_runs_the_program_as_the_stream_wants(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.input_bytes, broker.as_user = b"x", "nobody"
    broker.run = "sh -c 'id -un; cat \"$VMBROKER_INPUT\"; echo >{output}/by-nobody'"

    assert (await run_guest(broker, tmp_path))[0] == Exit.COMPLETED
    assert broker.completed is not None
    assert broker.completed.log == b"nobody\nx"
    assert set(broker.files) == {"by-nobody"}


@pytest.mark.parametrize("way", ["cancel", "lost"])
async def test_a_lost_item_stops_the_program_and_all_it_started(broker: EdgeBroker, tmp_path: Path, way: str) -> None:
    pid_file = tmp_path / "pid"
    program = script(
        tmp_path, f"trap '' TERM; sleep 600 & echo $! >{pid_file}.new; mv {pid_file}.new {pid_file}; wait; wait"
    )
    broker.run, broker.run_ms = str(program), 20_000
    async with started_guest(broker.url, tmp_path / "run") as guest:
        await eventually(pid_file.exists)
        if way == "cancel":
            broker.instruction = Instruction.CANCEL
        else:
            broker.extend_refusal = ProblemCode.LEASE_LOST

        assert await guest.wait() == Exit.LEASE_LOST

    assert not is_alive(pid_file)
    assert broker.completed is None
    assert broker.failed is None


async def test_sigterm_stops_the_program_and_delivers_nothing(broker: EdgeBroker, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    broker.run = f"sh -c 'echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 600'"
    async with started_guest(broker.url, tmp_path / "run") as guest:
        await eventually(pid_file.exists)
        guest.process.send_signal(signal.SIGTERM)

        assert await guest.wait() == Exit.STOPPED

    assert not is_alive(pid_file)


async def test_the_run_limit_ends_the_program_and_keeps_its_words(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.run, broker.run_ms = "sh -c 'echo begun; exec sleep 600'", 1_500

    assert (await run_guest(broker, tmp_path))[0] == Exit.ITEM_FAILED
    assert broker.failed is not None
    assert broker.failed.code is FailureCode.RUN_TIMEOUT
    assert broker.failed.sentence == "the run limit of 1.5 s was reached while running the program"
    assert broker.failed.log == b"begun\n"


async def test_a_result_waits_for_a_broker_that_is_away(broker: EdgeBroker, tmp_path: Path) -> None:
    go_on, begun = tmp_path / "go-on", tmp_path / "begun"
    program = script(
        tmp_path, f'touch {begun}; while [ ! -e {go_on} ]; do sleep 0.05; done; echo x >"$VMBROKER_OUTPUT/o"'
    )
    broker.run = str(program)
    async with started_guest(broker.url, tmp_path / "run") as guest:
        await eventually(begun.exists)
        await broker.stop()
        await eventually(lambda: any("the broker is away" in line for line in guest.end.logs))
        go_on.touch()
        await broker.start()

        assert await guest.wait() == Exit.COMPLETED

    assert broker.files == {"o": b"x\n"}


@pytest.mark.parametrize("status", [500, 502, 507])
async def test_a_broker_that_stumbles_has_refused_nothing(broker: EdgeBroker, tmp_path: Path, status: int) -> None:
    broker.run = "sh -c 'echo x >{output}/o'"
    broker.faults = [("claim", status), ("urls", status), ("complete", status), ("complete", status)]

    assert (await run_guest(broker, tmp_path))[0] == Exit.COMPLETED
    assert broker.faults == []
    assert broker.completed is not None
    assert broker.failed is None


async def test_the_lease_is_kept_until_the_result_is_taken(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.run, broker.lasting_fault = "true", ("complete", 503)
    async with started_guest(broker.url, tmp_path / "run") as guest:
        await eventually(lambda: broker.progress.count(DELIVERING) > 3)
        broker.lasting_fault = None
        assert await guest.wait() == Exit.COMPLETED


async def test_a_failure_is_told_to_a_broker_that_stumbled(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.run, broker.faults = "sh -c 'exit 3'", [("fail", 500), ("fail", 502)]

    assert (await run_guest(broker, tmp_path))[0] == Exit.ITEM_FAILED
    assert broker.faults == []
    assert broker.failed is not None
    assert broker.failed.exit_code == 3


@pytest.mark.parametrize("act", ["claim", "complete", "fail"])
@pytest.mark.parametrize("status", [500, 502])
async def test_a_broker_that_keeps_stumbling_is_away(
    broker: EdgeBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str, status: int
) -> None:
    monkeypatch.setattr("guest.steps.claim.CLAIM_PATIENCE", Patience(total_s=0.5))
    monkeypatch.setattr("guest.pipeline.DELIVERY_LEAST_S", 0.5)
    broker.run_ms, broker.run = 1_000, "false" if act == "fail" else "true"
    broker.lasting_fault = (act, status)
    said: list[str] = []
    welcome = Welcome(ticket="vt1.a", broker=broker.url, now="2000-01-01T00:00:00Z", entropy=b"0" * 32)

    assert await work(welcome, tmp_path / "run", "", said.append) == Exit.BROKER_AWAY
    assert f"/{act} answered {status} " in said[-1]
    assert broker.completed is None
    assert broker.failed is None


async def test_an_upload_that_broke_after_it_was_stored_counts(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.run, broker.breaks_after_storing = "sh -c 'echo x >{output}/o'", 1

    assert (await run_guest(broker, tmp_path))[0] == Exit.COMPLETED
    assert broker.puts == ["o", "o"]
    assert broker.completed is not None


async def test_an_output_that_is_there_with_other_bytes_fails_the_item(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.run, broker.files = "sh -c 'echo x >{output}/o'", {"o": b"somebody else's"}

    assert (await run_guest(broker, tmp_path))[0] == Exit.ITEM_FAILED
    assert broker.failed is not None
    assert broker.failed.code is FailureCode.UPLOAD_FAILED
    assert broker.failed.sentence.startswith("the output o could not be uploaded: ")


async def test_a_completion_that_is_not_taken_fails_the_item(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.complete_refusal = ProblemCode.OUTPUT_NOT_VERIFIED

    assert (await run_guest(broker, tmp_path))[0] == Exit.ITEM_FAILED
    assert broker.failed is not None
    assert (broker.failed.code, broker.failed.sentence) == (FailureCode.UPLOAD_FAILED, "the output o is not there")


async def test_a_refused_ticket_ends_the_client(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.claim_refusal = ProblemCode.TICKET_SPENT

    status, guest = await run_guest(broker, tmp_path)

    assert status == Exit.CLAIM_REFUSED
    assert "the broker refused the ticket: the ticket was used from elsewhere" in guest.end.logs


async def test_a_restarted_client_repeats_its_claim_key(broker: EdgeBroker, tmp_path: Path) -> None:
    await run_guest(broker, tmp_path)
    await run_guest(broker, tmp_path)

    first, second = broker.claims
    assert first.claim_key == second.claim_key
    (key_file,) = (tmp_path / "run").iterdir()
    assert key_file.stat().st_mode & 0o777 == 0o600
