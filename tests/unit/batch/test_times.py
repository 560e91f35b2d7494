import pytest

from launcher.batch.times import parse_span, rfc3339, shown_span


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("24h", 86_400), ("7d", 604_800)])
def test_spans_are_read_as_people_write_them(text: str, seconds: int) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1.5h", "-3m", "10 min", "1h30m"])
def test_what_is_no_span_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write 90s, 10m, 24h or 7d"):
        parse_span(text)


def test_spans_are_shown_in_the_largest_unit_that_is_not_too_coarse() -> None:
    assert [shown_span(seconds) for seconds in (0, 119, 120, 7_199, 7_200, 172_800)] == [
        "0 s",
        "119 s",
        "2 min",
        "119 min",
        "2 h",
        "2 d",
    ]


def test_times_are_told_in_utc() -> None:
    assert rfc3339(1_795_849_527) == "2026-11-28T07:05:27Z"
