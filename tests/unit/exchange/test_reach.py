from launcher.exchange.reach import Reach


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_way_is_cut_from_the_first_try_that_failed_to_the_first_that_worked() -> None:
    clock = Clock()
    reach = Reach(clock)
    assert reach.cut_s(within_s=10) == 0
    reach.failed()
    clock.now_s += 3
    reach.failed()
    clock.now_s += 4
    assert reach.cut_s(within_s=10) == 7
    reach.worked()
    clock.now_s += 9
    assert reach.cut_s(within_s=10) == 7


def test_a_cut_is_forgotten_some_time_after_the_way_is_open_again() -> None:
    clock = Clock()
    reach = Reach(clock)
    reach.failed()
    clock.now_s += 7
    reach.worked()
    clock.now_s += 11
    assert reach.cut_s(within_s=10) == 0
