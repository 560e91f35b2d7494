from typing import Any

import pytest

from broker.domain.callbacks import (
    ATTEMPTS,
    MOST_WAIT_S,
    PAUSES_S,
    after_answer,
    after_silence,
    callback_faults,
    pause_ms,
)
from broker.wire.callbacks import Callback, CallbackState

GOOD: dict[str, Any] = {"url": "https://alice.example/hook?room=1", "secrets": ("hook",)}


def test_attempts_go_on_for_days_and_end() -> None:
    for jitter in (0.0, 0.999):
        pauses_ms = [after_answer(500, None, attempt, jitter).again_ms for attempt in range(1, ATTEMPTS)]
        assert pauses_ms == sorted(pauses_ms)
        assert 3 <= sum(pauses_ms) / 86_400_000 <= 5
    assert after_answer(500, None, ATTEMPTS, 0.5).state is CallbackState.DEAD
    assert after_silence("nobody was there", ATTEMPTS, 0.5).state is CallbackState.DEAD


def test_what_failed_together_does_not_come_back_together() -> None:
    times = {pause_ms(3, None, jitter / 100) for jitter in range(100)}
    assert len(times) == 100
    assert min(times) == PAUSES_S[2] * 1_000
    assert max(times) < PAUSES_S[2] * 1_250


@pytest.mark.parametrize(
    ("asked_s", "pause_s"), [(None, 5), (0.0, 5), (60.0, 60), (1e9, MOST_WAIT_S), (float(MOST_WAIT_S), MOST_WAIT_S)]
)
def test_a_server_is_given_the_time_that_it_asks_for_within_a_bound(asked_s: float | None, pause_s: int) -> None:
    assert after_answer(429, asked_s, 1, 0).again_ms == pause_s * 1_000


def test_2xx_alone_is_success_and_410_alone_turns_off() -> None:
    for status in range(200, 600):
        verdict = after_answer(status, None, 1, 0)
        assert (verdict.state is CallbackState.DELIVERED) == (status < 300)
        assert verdict.is_off == (status == 410) == (verdict.state is CallbackState.DEAD)
        assert verdict.sentence.startswith(f"its server answered {status}")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"url": ""}, "url: it is empty"),
        ({"url": f"https://a/{'x' * 2_048}"}, "longer than 2048 characters"),
        ({"url": "ftp://a/x"}, "url: it is no https address"),
        ({"url": "https:///x"}, "url: it is no https address"),
        ({"url": "https://a:99999/x"}, "url: it is no address"),
        ({"url": "https://[a/x"}, "url: it is no address"),
        ({"url": "https://a/x\nHost: b"}, "percent-encoded"),
        ({"url": "https://\u0430.example/"}, "percent-encoded"),
        ({"url": "https://alice:secret@a/x"}, "user's name in it"),
        ({"url": "https://a/x#b"}, "fragment"),
        ({"secrets": ()}, "it names 0 keys"),
        ({"secrets": ("a", "b", "c")}, "it names 3 keys"),
        ({"secrets": ("a", "a")}, "it names 2 keys, or one twice"),
        ({"secrets": ("../a",)}, "secrets: '../a' is no name of a secret"),
        ({"events": ("item.ready",)}, "events: 'item.ready' settles no item"),
        ({"events": ("item.held", "item.held")}, "events: it names one twice"),
    ],
)
def test_what_a_spec_may_not_ask_for_is_told(wrong: dict[str, Any], said: str) -> None:
    assert list(callback_faults(Callback(**GOOD))) == []
    (fault,) = callback_faults(Callback(**{**GOOD, **wrong}))
    assert fault.at == "callback"
    assert said in fault.reason
    assert "secret@" not in str(fault)
