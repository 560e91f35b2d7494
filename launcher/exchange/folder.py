"""The IN folder: the item as files, for a guest without a network. Layout version 1.

Everything is written before the boot, by the launcher, and never read again by it: what a guest does to it there is the
guest's own affair.
"""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from broker.wire.dispatches import DispatchAnswer, StagedItem
from broker.wire.exchange import INPUT_FOLDER, INPUTS_FOLDER, ITEM_FILE, LAYOUT_VERSION, SCRIPT_FILE, ExchangeItem
from broker.wire.states import FailureCode
from launcher.exchange.printable import printable

MAX_SENTENCE_CHARACTERS: Final = 1_000

ENVIRONMENT_FILE: Final = "item.env"
PROGRAM_FILE: Final = "program"

_PLACEHOLDER: Final = re.compile(r"\{(input|output|item|script|(?:param|input)\.[^{}]+)\}")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Z0-9]")


class ItemFault(Exception):
    """The attempt failed in a way that is the item's, with what the researcher will read.

    The sentence may be a guest's, or hold its words: it becomes one printable line, no longer than the broker keeps.
    """

    def __init__(self, code: FailureCode, sentence: str, *, exit_code: int | None = None) -> None:
        self.sentence = printable(sentence, MAX_SENTENCE_CHARACTERS)
        super().__init__(self.sentence)
        self.code = code
        self.exit_code = exit_code


def write_item(folder: Path, answer: DispatchAnswer, staged: StagedItem) -> None:
    """Write all of the item but its inputs, which are fetched to `input_path` and `further_paths`.

    Raises:
        ItemFault: its run line cannot be carried out.
        OSError: the folder cannot be written.
    """
    folder.chmod(0o755)
    texts = {
        ITEM_FILE: msgspec.json.format(msgspec.json.encode(_item(answer, staged))).decode() + "\n",
        ENVIRONMENT_FILE: environment(answer.item, staged),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o644)
    programs = {PROGRAM_FILE: program(answer.item, staged)} | ({SCRIPT_FILE: staged.script} if staged.script else {})
    for name, text in programs.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)


def input_path(folder: Path, staged: StagedItem) -> Path | None:
    """Return where the item's input goes, None without one; its folder is made."""
    if staged.input is None:
        return None
    inputs = folder / INPUT_FOLDER
    inputs.mkdir(mode=0o755, exist_ok=True)
    inputs.chmod(0o755)
    return inputs / _input_name(staged)


def further_paths(folder: Path, staged: StagedItem) -> dict[str, Path]:
    """Return where the item's further inputs go, by name; their folders are made.

    Raises:
        ItemFault: an input's name could be no folder's.
    """
    inputs = folder / INPUTS_FOLDER
    paths = {name: inputs / name / file for name, file in _further_names(staged).items()}
    for path in (inputs, *(each.parent for each in paths.values())) if paths else ():
        path.mkdir(mode=0o755, exist_ok=True)
        path.chmod(0o755)
    return paths


def environment(item: str, staged: StagedItem) -> str:
    """Return `item.env`: assignments for a shell to read, each value in single quotes."""
    values = {
        "VMBROKER_ITEM": item,
        "VMBROKER_INPUT_NAME": "" if staged.input is None else _input_name(staged),
        "VMBROKER_AS": staged.as_user,
    }
    values |= {f"VMBROKER_PARAM_{_in_capitals(key)}": text for key, text in staged.params.items()}
    return "".join(f"{name}={_quoted(value)}\n" for name, value in values.items())


def program(item: str, staged: StagedItem) -> str:
    """Return the sh script that runs the stream's `run` line, every word as one argument, whatever is in it.

    It relies on the guest's start-up having exported VMBROKER_IN, VMBROKER_INPUT and VMBROKER_OUTPUT.

    Raises:
        ItemFault: the line cannot be read, or it names what the item does not have.
    """
    words = [_argument(word, item, staged) for word in _words(staged)]
    further = "".join(
        f"export VMBROKER_INPUT_{_in_capitals(name)}={_further(name, file)}\n"
        for name, file in _further_names(staged).items()
    )
    return f'#!/bin/sh\nVMBROKER_SCRIPT="$VMBROKER_IN/{SCRIPT_FILE}"\n{further}exec {" ".join(words)}\n'


def _item(answer: DispatchAnswer, staged: StagedItem) -> ExchangeItem:
    return ExchangeItem(
        version=LAYOUT_VERSION,
        item=answer.item,
        run=staged.run,
        as_user=staged.as_user,
        output_files=staged.output_files,
        run_ms=answer.limits.run_ms,
        output_mib=staged.output_mib,
        params=staged.params,
        input=None if staged.input is None else _input_name(staged),
        inputs=_further_names(staged),
    )


def _words(staged: StagedItem) -> list[str]:
    try:
        words = shlex.split(staged.run)
    except ValueError as error:
        raise ItemFault(FailureCode.PROGRAM_MISSING, f"the stream's run line cannot be read: {error}") from error
    if words:
        return words
    if not staged.script:
        raise ItemFault(FailureCode.PROGRAM_MISSING, "the stream's run line is empty, and it has no script")
    return ["{script}", *(["{input}"] if staged.input is not None else []), "{output}"]


def _argument(word: str, item: str, staged: StagedItem) -> str:
    """Return a word for the shell: what is written in it in single quotes, what only the guest knows in double ones."""
    parts = _PLACEHOLDER.split(word)
    said = [
        _value(part, item, staged) if is_placeholder else _quoted(part)
        for part, is_placeholder in zip(parts, _alternating(len(parts)), strict=True)
        if part
    ]
    return "".join(said) or "''"


def _alternating(count: int) -> list[bool]:
    # re.split gives the text between the placeholders at even places, what their group matched at odd ones.
    return [bool(index % 2) for index in range(count)]


def _value(name: str, item: str, staged: StagedItem) -> str:
    match name:
        case "input":
            if staged.input is None:
                sentence = "the stream's run line names {input}, but the item was pushed without one"
                raise ItemFault(FailureCode.INPUT_UNAVAILABLE, sentence)
            return '"$VMBROKER_INPUT"'
        case "output":
            return '"$VMBROKER_OUTPUT"'
        case "script":
            return '"$VMBROKER_SCRIPT"'
        case "item":
            return _quoted(item)
    kind, _, key = name.partition(".")
    if kind == "input":
        further = _further_names(staged)
        if key not in further:
            sentence = f"the stream's run line names {{input.{key}}}, but the item has no input {key!r}"
            raise ItemFault(FailureCode.INPUT_UNAVAILABLE, sentence)
        return _further(key, further[key])
    if key not in staged.params:
        sentence = f"the stream's run line names {{param.{key}}}, but the item has no parameter {key!r}"
        raise ItemFault(FailureCode.INPUT_UNAVAILABLE, sentence)
    return _quoted(staged.params[key])


def _input_name(staged: StagedItem) -> str:
    return _file_name(staged.input_name or "")


def _further_names(staged: StagedItem) -> dict[str, str]:
    """Return the file names of the further inputs, as the broker tells them."""
    _check_names(staged.inputs)
    return {name: _file_name(staged.input_names.get(name, "")) for name in staged.inputs}


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if _file_name(name) != name:
            raise ItemFault(FailureCode.INPUT_UNAVAILABLE, f"{name!r} cannot be an input's name")


def _further(name: str, file: str) -> str:
    return f'"$VMBROKER_IN"{_quoted(f"/{INPUTS_FOLDER}/{name}/{file}")}'


def _file_name(name: str) -> str:
    return name if name not in {"", ".", ".."} and not {"/", "\0", "\n"} & set(name) else "input"


def _in_capitals(name: str) -> str:
    return _NOT_IN_NAMES.sub("_", name.upper())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
