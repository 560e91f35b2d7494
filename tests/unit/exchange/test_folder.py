"""The IN folder, as a guest's shell reads it."""

import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from broker.wire.dispatches import DispatchAnswer, StagedItem
from broker.wire.exchange import ExchangeItem
from broker.wire.leases import SignedUrl
from broker.wire.states import Exchange, FailureCode
from launcher.exchange.folder import ItemFault, further_paths, input_path, write_item
from tests.support.dispatches import dispatched

HARD = """it's "two" words; $HOME `id` \\ *\nand a line"""
INPUT = SignedUrl(url="http://broker/x", target="file:alice/a b.txt")
SHOW = '/usr/bin/printf "%s\\n" '


def staged(run: str, *, with_input: bool = True, script: str = "", params: dict[str, str] | None = None) -> StagedItem:
    return StagedItem(
        run=run,
        as_user="root",
        output_files=["*"],
        output_mib=64,
        script=script,
        params=params or {},
        input_name="a b.txt" if with_input else None,
        input=INPUT if with_input else None,
    )


def answer() -> DispatchAnswer:
    return dispatched(item="alice/render/17", exchange=Exchange.DISK)


def said_by_program(folder: Path, item: StagedItem) -> list[str]:
    """Run the program as the documented start-up script does; return its lines."""
    folder.mkdir()
    write_item(folder, answer(), item)
    start_up = (
        f'set -a; . "{folder}/item.env"; VMBROKER_IN="{folder}" VMBROKER_INPUT="{folder}/input/$VMBROKER_INPUT_NAME"; '
        'VMBROKER_OUTPUT=/out; set +a; exec "$VMBROKER_IN/program"'
    )
    ran = subprocess.run(["/bin/sh", "-c", start_up], capture_output=True, text=True, timeout=20, check=True)
    return ran.stdout.splitlines()


def test_every_word_of_the_run_line_is_one_argument(tmp_path: Path) -> None:
    run = SHOW + "{input} --out={output}/x {item} 'a  b' {braces} \"\" end"

    lines = said_by_program(tmp_path / "in", staged(run))

    assert lines == [
        f"{tmp_path}/in/input/a b.txt",
        "--out=/out/x",
        "alice/render/17",
        "a  b",
        "{braces}",
        "",
        "end",
    ]


def test_a_parameter_reaches_the_program_whatever_is_in_it(tmp_path: Path) -> None:
    item = staged(SHOW + "{param.words}", params={"words": HARD})

    assert "\n".join(said_by_program(tmp_path / "in", item)) == HARD


def test_a_parameter_reaches_the_environment_whatever_is_in_it(tmp_path: Path) -> None:
    item = staged("/usr/bin/printenv VMBROKER_PARAM_SOME_WORDS", params={"some-words": HARD})

    assert "\n".join(said_by_program(tmp_path / "in", item)) == HARD


def test_further_inputs_have_folders_of_their_own_and_variables(tmp_path: Path) -> None:
    dark = SignedUrl(url="http://broker/y?s=1", target="https://h/it%27s%20dark?v=1")
    item = msgspec.structs.replace(
        staged("/bin/sh -c 'echo \"$0\"; printenv VMBROKER_INPUT_DARK_1' {input.dark_1}"),
        inputs={"dark_1": dark},
        input_names={"dark_1": "it's dark"},
    )
    path = f"{tmp_path}/in/inputs/dark_1/it's dark"

    assert said_by_program(tmp_path / "in", item) == [path, path]
    assert further_paths(tmp_path / "in", item) == {"dark_1": Path(path)}
    told = msgspec.json.decode((tmp_path / "in/item.json").read_bytes(), type=ExchangeItem)
    assert told.inputs == {"dark_1": "it's dark"}


def test_a_script_without_a_run_line_gets_input_and_output(tmp_path: Path) -> None:
    item = staged("", script='#!/bin/sh\nprintf "%s\\n" "$@"\n')

    assert said_by_program(tmp_path / "in", item) == [f"{tmp_path}/in/input/a b.txt", "/out"]


def test_the_item_is_told_as_json_as_well(tmp_path: Path) -> None:
    write_item(tmp_path, answer(), staged("/bin/true", params={"a": "b"}))

    item = msgspec.json.decode((tmp_path / "item.json").read_bytes(), type=ExchangeItem)
    assert (item.version, item.item, item.input, item.params) == (1, "alice/render/17", "a b.txt", {"a": "b"})
    assert os.access(tmp_path / "program", os.X_OK)


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (staged("/x {input}", with_input=False), FailureCode.INPUT_UNAVAILABLE),
        (staged("/x {param.gone}"), FailureCode.INPUT_UNAVAILABLE),
        (staged("/x {input.gone}"), FailureCode.INPUT_UNAVAILABLE),
        (msgspec.structs.replace(staged("/x"), inputs={"../..": INPUT}), FailureCode.INPUT_UNAVAILABLE),
        (staged("/x 'open"), FailureCode.PROGRAM_MISSING),
    ],
)
def test_a_run_line_that_cannot_be_carried_out_is_the_items_fault(
    tmp_path: Path, item: StagedItem, code: FailureCode
) -> None:
    with pytest.raises(ItemFault) as fault:
        write_item(tmp_path, answer(), item)

    assert fault.value.code is code


@pytest.mark.parametrize("name", ["..", "a/b", "", "a\nb"])
def test_an_input_stays_in_its_folder_whatever_its_name(tmp_path: Path, name: str) -> None:
    item = msgspec.structs.replace(staged("/x"), input_name=name)

    assert input_path(tmp_path, item) == tmp_path / "input" / "input"


def test_a_sentence_of_a_guests_becomes_one_short_printable_line() -> None:
    said = ItemFault(FailureCode.PROGRAM_FAILED, "gone\x1b[2J\nvmbroker: all is well " + "x" * 2_000_000).sentence

    assert said.startswith(r"gone\x1b[2J\nvmbroker: all is well x")
    assert said.isprintable()
    assert len(said) == 1_000
