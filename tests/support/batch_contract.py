"""What every batch system does with launcher jobs, the real ones and the fake alike."""

from typing import Protocol

from tests.support.waiting import wait_until

_LIMIT_S = 60
GOING_ON = frozenset({"queued", "running"})


class Driver(Protocol):
    """One batch system, by whatever it is driven."""

    def submit(self, slots: int) -> list[str]:
        """Submit jobs that run until they are told to end; return their ids."""

    def states(self) -> dict[str, str]:
        """Return the states of the jobs that are told of, by their ids."""

    def submissions(self) -> dict[str, str]:
        """Return the submission that each of those belongs to."""

    def remove(self, ids: list[str]) -> None:
        """Remove jobs that are there."""


def check_contract(driver: Driver) -> None:
    """Submit, look, remove; whatever does not hold is an assertion's failure."""
    before = set(driver.states())
    first, second = driver.submit(3), driver.submit(1)
    ids = [*first, *second]
    assert len(set(ids)) == 4
    assert not before & set(ids), "an id is never used again"

    states, submissions = driver.states(), driver.submissions()
    assert {states[each] for each in ids} <= GOING_ON
    assert len({submissions[each] for each in first}) == 1
    assert submissions[second[0]] != submissions[first[0]]
    wait_until(lambda: "running" in driver.states().values(), "one of them runs", timeout_s=_LIMIT_S)

    driver.remove(first[:1])
    _wait_ended(driver, first[:1])
    assert {driver.states()[each] for each in ids[1:]} <= GOING_ON, "the others go on"
    driver.remove(ids[1:])
    _wait_ended(driver, ids)


def _wait_ended(driver: Driver, ids: list[str]) -> None:
    def have_ended() -> bool:
        states = driver.states()
        return all(states.get(each, "ended") == "ended" for each in ids)

    wait_until(have_ended, f"{', '.join(ids)} ended", timeout_s=_LIMIT_S, poll_s=0.2)
