import re
from typing import Any

import msgspec
import pytest

from broker.domain.errors import Rejected
from broker.domain.paths import parse_file_url
from broker.domain.pushes import input_files, item_faults
from broker.domain.specs import BOUNDS, check_spec, params_of, spec_faults
from broker.wire.items import NewItem
from broker.wire.names import StreamRef, UserName
from broker.wire.problems import ProblemCode
from broker.wire.streams import StreamSpec

RENDER = StreamRef(UserName("alice"), "render")
SCRIPT = "#!/bin/sh\nexec true\n"
GOOD: dict[str, Any] = {"machine": "deb12", "run": "/opt/app/run"}


def spec(**fields: Any) -> StreamSpec:
    return msgspec.convert({**GOOD, **fields}, StreamSpec)


def faults(**fields: Any) -> list[str]:
    return [f"{fault.at}: {fault.reason}" for fault in spec_faults(spec(**fields), RENDER)]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"run": "", "script": SCRIPT},
        {"run": "/usr/bin/env {script}", "script": "#! /usr/bin/python3\n"},
        {"script": "#!/bin/sh\n" + "é" * 32_763},
        {"params": {"seed": "7", "_x": ""}},
        {"needs": {"vcpus": "slot"}},
        {"needs": {"exchange": "rootdisk", "exchange_folder": "/srv/in out"}},
        {"needs": {"exchange": "disk"}, "output": {"to": "https://share.example/{item}/{name}"}},
        {"retry": {"backoff_first_ms": 0, "backoff_max_ms": 0}},
        {"keep_ms": 60_000},
    ],
)
def test_a_spec_that_can_be_done_is_taken(fields: dict[str, Any]) -> None:
    check_spec(spec(**fields), RENDER)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"machine": "a/b/c"}, "machine: "),
        ({"run": ""}, "run: it names no program"),
        ({"run": "x '"}, "run: it cannot be split into words"),
        ({"run": "{script} {input}"}, "run: it names {script}, and there is none"),
        ({"as_user": "Root"}, "as_user: 'Root' is no account's name"),
        ({"script": "echo"}, "script: its first line names no interpreter"),
        ({"script": "#!sh\n"}, "script: its first line names no interpreter"),
        ({"script": "#!/bin/sh\r\n"}, "script: it has the line ends of another system"),
        ({"script": SCRIPT + "\0"}, "script: it holds a NUL"),
        ({"script": SCRIPT + "é" * 32_768}, "script: it has 65556 bytes"),
        ({"params": {"a-b": ""}}, "params: 'a-b' is no parameter's name"),
        ({"params": {"": ""}}, "params: '' is no parameter's name"),
        ({"params": {"7": ""}}, "params: '7' is no parameter's name"),
        ({"params": {"a": "\0"}}, "params: the parameter 'a' holds a NUL"),
        ({"params": {"a": "x" * 65_536}}, "params: the parameters take 65537 bytes"),
        (
            {"params": {"Seed": "", "seed": ""}},
            "params: the parameters 'Seed' and 'seed' would both be VMBROKER_PARAM_SEED",
        ),
        ({"needs": {"exchange_folder": "/x"}}, "needs.exchange_folder: exchange network knows no folder"),
        ({"network": ["share.example"]}, "network: 'share.example' is no HOST:PORT"),
        ({"network": ["a:1"], "needs": {"exchange": "shared"}}, "network: a vm with exchange shared has no network"),
        ({"network": ["a:1"] * 101}, "network: 101 hosts are too many"),
        ({"output": {"files": []}}, "output.files: it names no pattern"),
        ({"output": {"to": "ftp://x/{name}"}}, "output.to: "),
        (
            {"retry": {"backoff_first_ms": 2_000, "backoff_max_ms": 1_000}},
            "retry.backoff_max_ms: the first pause, 2s, is",
        ),
    ],
)
def test_each_fault_is_told_with_its_place(fields: dict[str, Any], said: str) -> None:
    told = faults(**fields)
    assert len(told) == 1
    assert told[0].startswith(said)


@pytest.mark.parametrize(
    "folder", ["/", "vmbroker", "", "/a/../b", "/a//b", "/a/", "/a/./b", "/a\nb", "/proc/x", "/run", "/tmp/x", "/dev"]
)
def test_exchange_folder_must_be_a_clean_path_that_a_guest_sees_on_its_disk(folder: str) -> None:
    told = faults(needs={"exchange": "rootdisk", "exchange_folder": folder})
    assert len(told) == 1
    assert told[0].startswith("needs.exchange_folder: ")


@pytest.mark.parametrize("path", BOUNDS)
def test_numbers_are_taken_up_to_their_bounds_and_no_further(path: str) -> None:
    low, high, _ = BOUNDS[path]
    section, _, name = path.rpartition(".")
    for value, is_good in ((low, True), (high, True), (low - 1, False), (high + 1, False)):
        written = (value,) if path == "retry.hold_exit_codes" else value
        more = {"backoff_max_ms": BOUNDS[path].high} if path == "retry.backoff_first_ms" else {}
        more |= {"backoff_first_ms": 0} if path == "retry.backoff_max_ms" else {}
        told = faults(**({section: {name: written, **more}} if section else {name: written}))
        assert [line for line in told if "is out of bounds" in line] == ([] if is_good else told)
        assert bool(told) != is_good


def test_all_faults_are_told_at_once_each_with_a_remedy() -> None:
    with pytest.raises(Rejected) as refused:
        check_spec(spec(run="", as_user="", needs={"vcpus": 0}, keep_ms=1), RENDER)
    assert refused.value.code == ProblemCode.BAD_SPEC
    assert [refusal["path"] for refusal in refused.value.refusals] == ["run", "as_user", "needs.vcpus", "keep_ms"]
    assert refused.value.refusals[3]["remedy"] == "write 1m to 3650d (60000 to 315360000000 ms)"


def test_an_items_own_parameters_come_before_the_streams() -> None:
    with_params = spec(params={"seed": "1", "size": "big"})
    assert params_of(with_params, {"seed": "2"}) == {"seed": "2", "size": "big"}


def test_a_push_is_checked_with_the_streams_parameters() -> None:
    with_params = spec(run="/opt/app/run {param.seed}", params={"seed": "1"})

    def faults(of: StreamSpec, *items: NewItem) -> list[str]:
        return [f"{fault.at}: {fault.reason}" for fault in item_faults(of, RENDER, list(enumerate(items, 7)))]

    assert faults(with_params, NewItem(), NewItem(params={"size": "big"})) == []
    [both] = faults(with_params, NewItem(), NewItem(params={"SEED": "2"}))
    assert both.startswith("8: the parameters")
    assert both.endswith("would both be VMBROKER_PARAM_SEED")
    [large] = faults(with_params, NewItem(params={"size": "x" * 65_530}))
    assert re.search(r"take 65[0-9]{3} bytes", large)
    [lacking] = faults(spec(run="/opt/app/run {param.seed}"), NewItem())
    assert "lacks the parameter 'seed'" in lacking


def test_a_push_is_checked_for_the_inputs_that_the_run_line_names() -> None:
    def faults(of: StreamSpec, *items: NewItem) -> list[str]:
        return [f"{fault.at}: {fault.reason}" for fault in item_faults(of, RENDER, list(enumerate(items, 7)))]

    naming = spec(run="/opt/app/run {input.mask} {input.genome}", inputs={"genome": "https://share.example/genome.fa"})
    has, plain = NewItem(inputs={"mask": "file:alice/mask"}), NewItem(url="https://share.example/a/b.txt")
    assert faults(naming, has) == []
    assert faults(naming, plain, has) == ["7: it lacks the input 'mask', which the stream's run line names"]
    assert faults(spec(run="/opt/app/run {input.no name}"), plain) == [
        "7: it lacks the input 'no name', which the stream's run line names"
    ]
    # Of a target it is the input's path, and of a run line nothing but an input's name.
    assert faults(spec(output={"to": "file:alice/{input.path}/{name}"}), plain) == []


def test_further_inputs_have_names_of_their_own_and_addresses_a_guest_can_fetch() -> None:
    def faults(*items: NewItem) -> list[str]:
        return [f"{fault.at}: {fault.reason}" for fault in item_faults(spec(), RENDER, list(enumerate(items, 7)))]

    good = {"mask": "file:alice/mask", "reference": "https://share.example/genome.fa"}
    assert faults(NewItem(inputs=good), NewItem()) == []
    assert input_files([NewItem(url="file:alice/a", inputs=good)]) == {
        parse_file_url("file:alice/a"),
        parse_file_url("file:alice/mask"),
    }
    for name in ("path", "name", "Name"):
        assert faults(NewItem(inputs={name: "file:alice/a"})) == [f"7: {name!r} is no input's name"]
    assert faults(NewItem(inputs={"mask": "ftp://host.example/a"}))[0].startswith("7: the input 'mask': 'ftp:")
    [two] = faults(NewItem(inputs={"mask": "file:alice/a", "Mask": "file:alice/b"}))
    assert two.endswith("would both be VMBROKER_INPUT_MASK")
    assert "33 further inputs" in faults(NewItem(inputs={f"i{index}": "file:alice/a" for index in range(33)}))[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://host.example:99999/a",
        "http://host.example:0/a",
        "https:///nowhere",
        "https://user:secret@host.example/a",
        "https://host.example/a b",
        "https://host.example/é",
        "ftp://host.example/a",
        f"https://{'h' * 300}/a",
        "file:alice/../x",
        f"https://host.example/{'x' * 8_200}",
    ],
)
def test_a_url_that_no_guest_can_fetch_is_told(url: str) -> None:
    assert len(item_faults(spec(), RENDER, [(1, NewItem(url=url))])) == 1


@pytest.mark.parametrize(
    "url", ["https://h/", "http://host.example:8080/a?b=c&d=%20", "https://[::1]:8443/x", "file:alice/x"]
)
def test_a_url_that_guests_can_fetch_is_good(url: str) -> None:
    assert item_faults(spec(), RENDER, [(1, NewItem(url=url))]) == []
