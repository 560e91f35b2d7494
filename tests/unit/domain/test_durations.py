import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.durations import BadDuration, parse_ms, text_of


@given(st.integers(min_value=0, max_value=315_360_000_000))
def test_the_text_of_a_duration_is_read_as_the_same(ms: int) -> None:
    assert parse_ms(text_of(ms)) == ms


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0s"), (1, "1ms"), (90_000, "1m30s"), (900_000, "15m"), (2_592_000_000, "30d")]
)
def test_a_duration_is_written_as_short_as_people_do(ms: int, text: str) -> None:
    assert text_of(ms) == text


@pytest.mark.parametrize("text", ["", "5", "-5s", "1.5h", "5 s", "5S", "9999999999s", "5s\n"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(BadDuration, match="write a duration like"):
        parse_ms(text)
