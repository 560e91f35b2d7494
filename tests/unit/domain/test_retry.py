import pytest

from broker.domain.retry import BOOTS_EXHAUSTED, Cause, Counters, after_failure, after_give_back, backoff_ms
from broker.wire.states import ItemState
from broker.wire.streams import Retry

EXIT_3 = Cause("program_failed", "the program exited with 3", 3)
NO_LIBVIRT = Cause("host_error", "libvirt did not start")
STEADY = 0.0


@pytest.mark.parametrize(("nth", "expected_ms"), [(1, 1_000), (2, 2_000), (3, 4_000), (4, 5_000), (1_000, 5_000)])
def test_pause_doubles_up_to_the_bound(nth: int, expected_ms: int) -> None:
    assert backoff_ms(Retry(backoff_first_ms=1_000, backoff_max_ms=5_000), nth, STEADY) == expected_ms


def test_spread_takes_away_at_most_half() -> None:
    assert backoff_ms(Retry(backoff_first_ms=1_000), 1, 0.999) == 500


def test_failure_with_attempts_left_is_delayed_with_the_guests_own_sentence() -> None:
    outcome = after_failure(Retry(attempts=3), Counters(attempts=1, boots=1, given_back=0), EXIT_3, STEADY)
    assert (outcome.state, outcome.code, outcome.sentence) == (ItemState.DELAYED, EXIT_3.code, EXIT_3.sentence)


@pytest.mark.parametrize(
    ("retry", "counters", "cause", "code", "sentence"),
    [
        (
            Retry(attempts=3),
            Counters(3, 3, 0),
            EXIT_3,
            "program_failed",
            "failed 3 of 3 attempts; the last: the program exited with 3",
        ),
        (
            Retry(attempts=1),
            Counters(1, 1, 0),
            EXIT_3,
            "program_failed",
            "the program exited with 3; no attempt is left",
        ),
        (
            Retry(hold_exit_codes=(3,)),
            Counters(1, 1, 0),
            EXIT_3,
            "program_failed",
            "the program exited with 3; the stream holds items that exit with 3",
        ),
        (
            Retry(attempts=3, boots=2),
            Counters(1, 2, 0),
            EXIT_3,
            BOOTS_EXHAUSTED,
            "booted 2 of 2 times without a result; the last: the program exited with 3",
        ),
    ],
    ids=["attempts", "the only attempt", "hold exit code", "boots"],
)
def test_failure_at_a_bound_is_held_and_says_why(
    retry: Retry, counters: Counters, cause: Cause, code: str, sentence: str
) -> None:
    outcome = after_failure(retry, counters, cause, STEADY)
    assert (outcome.state, outcome.code, outcome.sentence) == (ItemState.HELD, code, sentence)


def test_first_give_back_goes_to_the_head_and_later_ones_wait_longer_each_time() -> None:
    retry = Retry(backoff_first_ms=1_000, backoff_max_ms=60_000)
    outcomes = [after_give_back(retry, Counters(0, nth, nth), NO_LIBVIRT, STEADY) for nth in (1, 2, 3)]
    assert [(each.state, each.delay_ms) for each in outcomes] == [
        (ItemState.READY, 0),
        (ItemState.DELAYED, 1_000),
        (ItemState.DELAYED, 2_000),
    ]


def test_give_back_after_the_last_boot_is_held() -> None:
    outcome = after_give_back(Retry(boots=2), Counters(0, 2, 1), NO_LIBVIRT, STEADY)
    assert (outcome.state, outcome.code) == (ItemState.HELD, BOOTS_EXHAUSTED)
    assert outcome.sentence == "booted 2 of 2 times without a result; the last: libvirt did not start"
