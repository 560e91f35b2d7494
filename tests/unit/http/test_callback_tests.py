from contextlib import ExitStack

import pytest

from broker.domain.errors import Unavailable
from broker.domain.limits import default
from broker.http.callback_tests import MOST_AT_ONCE, WITHIN_S, CallbackTests


def test_so_many_within_a_minute_of_each_user() -> None:
    now_s = 1_000.0
    tests = CallbackTests(lambda: now_s)

    def begin(user: str) -> None:
        with tests.place(user):
            pass

    for _ in range(default("callback_tests")):
        begin("alice")
    with pytest.raises(Unavailable, match="wait a little") as refused:
        begin("alice")
    assert refused.value.retry_after_s == WITHIN_S + 1
    begin("bob")
    now_s += WITHIN_S
    begin("alice")


def test_so_many_at_once_of_all_users() -> None:
    tests = CallbackTests()
    with ExitStack() as stack:
        for number in range(MOST_AT_ONCE):
            stack.enter_context(tests.place(f"u{number}"))
        with pytest.raises(Unavailable, match="being tested already"):
            stack.enter_context(tests.place("alice"))
    with tests.place("alice"):
        pass
