"""What becomes of an item whose attempt or boot ended without a result, and the sentence that tells a person why."""

from typing import NamedTuple

from broker.wire.states import EXIT_GIVE_BACK, ItemState
from broker.wire.streams import Retry

FIRST_GIVE_BACK = 1
BOOTS_EXHAUSTED = "boots_exhausted"


class Counters(NamedTuple):
    """An item's bounded counters. `given_back` counts give backs in a row, without a claim that lasted."""

    attempts: int
    boots: int
    given_back: int


class Cause(NamedTuple):
    """Why the vm ended without a result: a closed code, a sentence, the program's exit code where there was one."""

    code: str
    sentence: str
    exit_code: int | None = None


class Outcome(NamedTuple):
    """Where the item goes: `ready` at the head, `delayed` for `delay_ms`, or `held`; and the reason it then shows."""

    state: ItemState
    code: str
    sentence: str
    delay_ms: int = 0


def backoff_ms(retry: Retry, nth: int, jitter: float) -> int:
    """Return the pause before try `nth` + 1: doubled each time up to the bound, spread by `jitter` in [0, 1).

    The spread takes away up to half, so that items which failed together do not come back together.
    """
    full = min(retry.backoff_max_ms, retry.backoff_first_ms * 2 ** min(nth - 1, 30))
    return int(full * (1 - jitter / 2))


def after_failure(retry: Retry, counters: Counters, cause: Cause, jitter: float) -> Outcome:
    """Decide after a failed attempt; `counters.attempts` counts it already."""
    if cause.exit_code is not None and cause.exit_code in retry.hold_exit_codes:
        return _held(cause, f"{_clause(cause)}; the stream holds items that exit with {cause.exit_code}")
    if counters.attempts >= retry.attempts:
        return _held(cause, _attempts_exhausted(retry, counters, cause))
    if counters.boots >= retry.boots:
        return _boots_exhausted(retry, counters, cause)
    return Outcome(ItemState.DELAYED, cause.code, cause.sentence, backoff_ms(retry, counters.attempts, jitter))


def after_give_back(retry: Retry, counters: Counters, cause: Cause, jitter: float) -> Outcome:
    """Decide after a give back; `counters.given_back` counts it already."""
    if counters.boots >= retry.boots:
        return _boots_exhausted(retry, counters, cause)
    if counters.given_back <= FIRST_GIVE_BACK:
        return Outcome(ItemState.READY, cause.code, cause.sentence)
    pause_ms = backoff_ms(retry, counters.given_back - FIRST_GIVE_BACK, jitter)
    return Outcome(ItemState.DELAYED, cause.code, cause.sentence, pause_ms)


def is_give_back(exit_code: int | None) -> bool:
    """Tell whether the program said that the attempt was not its fault."""
    return exit_code == EXIT_GIVE_BACK


def _held(cause: Cause, sentence: str) -> Outcome:
    return Outcome(ItemState.HELD, cause.code, sentence)


def _attempts_exhausted(retry: Retry, counters: Counters, cause: Cause) -> str:
    if retry.attempts == 1:
        return f"{_clause(cause)}; no attempt is left"
    return f"failed {counters.attempts} of {retry.attempts} attempts; the last: {cause.sentence}"


def _boots_exhausted(retry: Retry, counters: Counters, cause: Cause) -> Outcome:
    sentence = f"booted {counters.boots} of {retry.boots} times without a result; the last: {cause.sentence}"
    return Outcome(ItemState.HELD, BOOTS_EXHAUSTED, sentence)


def _clause(cause: Cause) -> str:
    return cause.sentence.rstrip(". ")
