from pathlib import Path

import pytest

from broker.wire.states import FailureCode
from guest.steps.account import Account
from guest.steps.command import Inputs, arguments, environment
from guest.steps.failure import StepFailed
from guest.steps.workspace import Workspace
from tests.unit.guest.items import work

WORKSPACE = Workspace(Path("/var/tmp/w"))
INPUT = Path("/var/tmp/w/work/my frame.exr")
INPUTS = Inputs(INPUT, {"dark-1": Path("/var/tmp/w/inputs/dark-1/d k")})
NONE = Inputs()
ALICE = Account("alice", 1000, 1000, (1000,), "/home/alice", "/bin/bash")


def test_a_value_is_one_argument_whatever_is_in_it() -> None:
    line = """/opt/run '{input}' --out={output}/x {item} "a {param.seed} b" {param.empty} x{input.dark-1}"""
    words = arguments(work(run=line, params={"seed": "$(rm) 'x' {item}", "empty": ""}), WORKSPACE, INPUTS)
    assert words == [
        "/opt/run",
        "/var/tmp/w/work/my frame.exr",
        "--out=/var/tmp/w/output/x",
        "alice/render/17",
        "a $(rm) 'x' {item} b",
        "",
        "x/var/tmp/w/inputs/dark-1/d k",
    ]


def test_braces_that_are_no_placeholder_stay() -> None:
    assert arguments(work(run="awk '{print $1}' {} {inputs}"), WORKSPACE, NONE) == [
        "awk",
        "{print $1}",
        "{}",
        "{inputs}",
    ]


@pytest.mark.parametrize(
    ("run", "input_path", "words"),
    [
        ("", INPUT, ["/var/tmp/w/script", str(INPUT), "/var/tmp/w/output"]),
        ("", None, ["/var/tmp/w/script", "/var/tmp/w/output"]),
        ("nice {script} {item}", INPUT, ["nice", "/var/tmp/w/script", "alice/render/17"]),
    ],
)
def test_a_script_that_was_sent_along_is_run_or_named(run: str, input_path: Path | None, words: list[str]) -> None:
    assert arguments(work(run=run, script="echo"), WORKSPACE, Inputs(input_path)) == words
    assert environment(work(script="echo"), WORKSPACE, NONE, ALICE, None)["VMBROKER_SCRIPT"] == "/var/tmp/w/script"


@pytest.mark.parametrize(
    ("run", "code", "sentence"),
    [
        ("x {input}", FailureCode.INPUT_UNAVAILABLE, "the item was pushed without one"),
        ("x {param.seed}", FailureCode.INPUT_UNAVAILABLE, "the item has no parameter 'seed'"),
        ("x {input.dark}", FailureCode.INPUT_UNAVAILABLE, "the item has no input 'dark'"),
        ("x 'y", FailureCode.PROGRAM_MISSING, "cannot be read: No closing quotation"),
        ("x {script}", FailureCode.PROGRAM_MISSING, "the stream sends none along"),
        ("  ", FailureCode.PROGRAM_MISSING, "is empty"),
    ],
)
def test_a_line_that_cannot_be_filled_is_explained(run: str, code: FailureCode, sentence: str) -> None:
    with pytest.raises(StepFailed, match=sentence) as caught:
        arguments(work(run=run), WORKSPACE, NONE)
    assert caught.value.code is code


def test_the_environment_holds_nothing_of_the_clients_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/mnt")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mnt/lib")
    given = environment(work(params={"a-b": "1"}), WORKSPACE, INPUTS, ALICE, "http://vm:pw@10.0.2.2:3128")
    assert given == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/home/alice",
        "USER": "alice",
        "LOGNAME": "alice",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "VMBROKER_INPUT": str(INPUT),
        "VMBROKER_INPUT_DARK_1": "/var/tmp/w/inputs/dark-1/d k",
        "VMBROKER_OUTPUT": "/var/tmp/w/output",
        "VMBROKER_ITEM": "alice/render/17",
        "VMBROKER_PARAM_A_B": "1",
        "MACHINEFEATURES": "/var/tmp/w/machinefeatures",
        "JOBFEATURES": "/var/tmp/w/jobfeatures",
        "http_proxy": "http://vm:pw@10.0.2.2:3128",
        "https_proxy": "http://vm:pw@10.0.2.2:3128",
        "no_proxy": "localhost,127.0.0.1,::1",
        "HTTP_PROXY": "http://vm:pw@10.0.2.2:3128",
        "HTTPS_PROXY": "http://vm:pw@10.0.2.2:3128",
        "NO_PROXY": "localhost,127.0.0.1,::1",
    }
