"""The scripts' headers are their contract: compared with the domain's tables, the Python side, and their own text."""

import re
from typing import get_args, get_type_hints

import pytest

from broker.domain.lifecycle import ACTS, Act
from broker.store import scripts
from broker.store.arguments import SCRIPTS, Arguments
from broker.store.keys import StreamKeys
from broker.wire.events import EventType
from broker.wire.states import ItemState

ALL = sorted(SCRIPTS.values())
SCRIPTS_OF_ACTS = {
    **{act: [act.value] for act in Act},
    **{act: [act.value, f"{act.value}_many"] for act in (Act.CANCEL, Act.HOLD, Act.RELEASE)},
    Act.EXTEND: ["extend", "extend_dispatch", "phase"],
}
"""Which scripts do an act: of one item, or of many; a phase that a launcher reports extends its dispatch."""
KEYS_OF_ONE_SCRIPT = {
    *("user_rings", "streams_of", "readies"),
    "submitters",
    "submitters_of",
    "told_of",
    "definitions",
    "removed_machines",
    *("machine", "machines", "machines_of", "images", "readers", "machine_streams", "machine_streams_of"),
    *("secret", "secrets", "secrets_of", "masks"),
    *("grants", "ungranted", "unnamed", "push_key", "dispatch_key", "clock", "life"),
    *("outbox_of", "owed_of", "out", "out_of", "delivered", "delivered_of", "dead", "dead_of", "accounts"),
    *("record", "callbacks_of", "callback_ids", "callback_ids_of"),
    *("code", "token_of", "tokens_of", "sites", "revoked", "revocations"),
}
TYPES = {"int": int, "ms": int, "flag": bool, "text...": tuple[str, ...]}
MAX_LINES = 120


def _moves(name: str) -> set[tuple[str, str]]:
    text = " ".join(scripts.load(name).header["MOVES"])
    return set() if text == "none" else {tuple(move.split(" -> ")) for move in text.split(", ")}  # type: ignore[misc] # pairs


def _emits(name: str) -> set[str]:
    text = " ".join(scripts.load(name).header["EMITS"])
    return set() if text == "none" else set(text.split())


def test_every_script_has_arguments_and_every_arguments_a_script() -> None:
    assert scripts.names() == ALL
    assert set(SCRIPTS) == set(get_args(Arguments))


@pytest.mark.parametrize("name", ALL)
def test_header_has_every_field(name: str) -> None:
    assert {"PURPOSE", "KEYS", "ARGV", "RETURN", "MOVES", "EMITS", "COST"} <= set(scripts.load(name).header)


@pytest.mark.parametrize("name", ALL)
def test_script_declares_itself_and_is_short(name: str) -> None:
    text = scripts._read(f"{name}.lua")
    assert text.startswith("#!lua")
    assert len(text.splitlines()) <= MAX_LINES


@pytest.mark.parametrize("arguments", SCRIPTS, ids=SCRIPTS.get)
def test_arguments_are_those_of_the_header_in_order_and_type(arguments: type[Arguments]) -> None:
    hints = get_type_hints(arguments)
    header = scripts.load(SCRIPTS[arguments]).arguments
    assert list(hints) == [argument.name for argument in header]
    for argument in header:
        # NewTypes of text are text on the wire.
        hint = getattr(hints[argument.name], "__supertype__", hints[argument.name])
        assert hint == TYPES.get(argument.type, str), argument


@pytest.mark.parametrize("name", ALL)
def test_keys_are_known_and_each_is_used(name: str) -> None:
    script = scripts.load(name)
    assert set(script.keys) <= set(StreamKeys._fields) | KEYS_OF_ONE_SCRIPT
    code = re.sub(r"--.*", "", script.source)
    unused = [key for key in script.keys if len(re.findall(rf"(?<!['\w.]){key}(?!['\w])", code)) < 2]
    assert unused == []


@pytest.mark.parametrize("act", Act)
def test_scripts_of_an_act_make_exactly_its_transitions(act: Act) -> None:
    made = set().union(*(_moves(name) for name in SCRIPTS_OF_ACTS[act]))
    allowed = {
        (source.value if source is not None else "none", target.value)
        for source, targets in ACTS[act].transitions.items()
        for target in targets
    }
    assert made == allowed


def test_only_scripts_of_acts_move_items() -> None:
    acts = {name for names in SCRIPTS_OF_ACTS.values() for name in names}
    assert {name for name in ALL if _moves(name)} <= acts


def test_moves_are_between_states_that_there_are() -> None:
    named = {state for name in ALL for move in _moves(name) for state in move}
    assert named <= {state.value for state in ItemState} | {"none"}


@pytest.mark.parametrize("name", ALL)
def test_emits_what_its_code_emits(name: str) -> None:
    code = re.sub(r"--.*", "", scripts.load(name).source)
    literal = set(re.findall(r"'((?:item|items|vm|ticket|secret|stream|bulk)\.\w+)'", code))
    if "'vm.' .. phase" in code:
        literal |= {event.value for event in EventType if event.value.startswith("vm.")} - {"vm.ended"}
    if name == "give_back":
        literal -= {"item.delayed"}  # said of a failed attempt, which this act never is
    if name == "fail":
        literal -= {"item.given_back"}
    assert literal == _emits(name)
    assert literal <= {event.value for event in EventType}


def test_every_event_type_is_emitted_by_a_script() -> None:
    assert {event.value for event in EventType} == set().union(*(_emits(name) for name in ALL))


@pytest.mark.parametrize("name", ALL)
def test_answers_only_words_of_its_list_and_each_of_them(name: str) -> None:
    script = scripts.load(name)
    code = re.sub(r"--.*", "", script.source)
    returns = "\n".join(re.findall(r"return [^\n]*", code))
    answered = {word.value for word in scripts.Word if f"'{word}'" in returns}
    assert answered == {word.value for word in script.words}


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_read_back_to_decide_after_the_first_write(name: str) -> None:
    """A refusal after a write would leave the act half done: Lua does not roll back."""
    body = re.sub(r"--.*", "", scripts._read(f"{name}.lua"))
    writes = [match.start() for match in re.finditer(r"(?:ZADD|HINCRBY|'HSET'|RPUSH|leave_dispatch\(|go_back\()", body)]
    refusals = [match.start() for match in re.finditer(r"return \{'(?:lost|changed|differs|missing|reused)'", body)]
    assert not writes or not refusals or max(refusals) < min(writes)


@pytest.mark.parametrize("name", ALL)
def test_no_piece_hides_an_argument_or_a_key(name: str) -> None:
    script = scripts.load(name)
    pieces = "\n".join(scripts._pieces(script.header.get("USES", [])) + scripts._pieces(script.header.get("EACH", [])))
    declared = re.findall(r"^local (?:function )?(\w+(?:, \w+)*)", pieces, re.MULTILINE)
    hidden = {each for names in declared for each in names.split(", ")} | {"at_end", "do_act", "error_of", "finish_all"}
    assert hidden & ({argument.name for argument in script.arguments} | set(script.keys)) == set()


@pytest.mark.parametrize("name", [name for name in ALL if scripts.load(name).is_for_several])
def test_what_several_acts_share_needs_none_of_their_own_arguments(name: str) -> None:
    script = scripts.load(name)
    shared = re.sub(r"--.*|'[^']*'", "", "\n".join(scripts._pieces(script.header["USES"])))
    own = {argument.name for argument in script.arguments[len(scripts.COMMON) :]} - {"number"}
    assert set(re.findall(r"(?<![\w.])[a-z]\w*", shared)) & own == set()
