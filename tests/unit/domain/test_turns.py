import pytest

from broker.domain.turns import Turns


@pytest.mark.parametrize("count", [1, 2, 3, 64])
@pytest.mark.parametrize("now_s", [0.0, 0.25, 1.0, 17.5, 12_345.75])
def test_at_any_time_it_is_the_turn_of_exactly_one(count: int, now_s: float) -> None:
    own = [place for place in range(count) if Turns(place, count).is_own(now_s, 1.0)]
    assert len(own) == 1


@pytest.mark.parametrize("turn_s", [1.0, 10.0])
def test_the_turns_go_round(turn_s: float) -> None:
    three = [Turns(place, 3) for place in range(3)]
    waits_s = [turns.until_next_s(4.25 * turn_s, turn_s) / turn_s for turns in three]
    assert waits_s == [1.75, 2.75, 0.75], "the fifth turn is on, which is the second one's"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_next_turn_is_never_now_and_is_ones_own(place: int) -> None:
    turns = Turns(place, 3)
    for quarter in range(40):
        now_s = quarter / 4
        wait_s = turns.until_next_s(now_s, 1.0)
        assert 0 < wait_s <= 3
        assert turns.is_own(now_s + wait_s, 1.0)


def test_a_process_alone_has_every_turn() -> None:
    assert Turns().is_own(3.5, 1.0)
    assert Turns().until_next_s(3.75, 1.0) == 0.25
