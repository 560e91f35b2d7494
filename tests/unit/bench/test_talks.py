import json
from collections.abc import Sequence
from typing import Any

import pytest

from bench.broker.calls import MOST, URL_CHARS, Calls, tickets_of, url_of, urls_of
from bench.broker.drive import Answer, Pause, Talk
from bench.broker.peers import beanstalk
from bench.broker.talks import Taken, Turn, Work, director, filler, guest, parked, pusher
from bench.broker.waits import percentile
from bench.failing import BenchFailed

CALLS = Calls("researcher's", "launcher's")
GIVEN = {"ticket": "t", "dispatch": "d"}


def test_every_url_has_the_length_that_is_told_and_is_another_one() -> None:
    urls = [url_of(number) for number in (0, 1, 999_999)]

    assert {len(url) for url in urls} == {URL_CHARS}
    assert len(set(urls)) == 3


def test_urls_come_in_chunks_of_one_push_request() -> None:
    assert [len(chunk) for chunk in urls_of(1_200)] == [500, 500, 200]


def test_a_request_tells_the_length_of_its_body_and_bears_its_token() -> None:
    head, _, body = CALLS.push([url_of(1), url_of(2)]).partition(b"\r\n\r\n")

    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Authorization: Bearer researcher's" in head
    assert [json.loads(line)["url"] for line in body.splitlines()] == [url_of(1), url_of(2)]


def test_tickets_are_read_from_an_answer_with_one_item_and_from_one_with_several() -> None:
    assert tickets_of(_json(GIVEN)) == ["t"]
    assert tickets_of(_json({"dispatches": [GIVEN, {"ticket": "u"}]})) == ["t", "u"]
    assert tickets_of(Answer(204, b"")) == []
    with pytest.raises(BenchFailed, match="503"):
        tickets_of(Answer(503, b"away"))


def test_a_guest_brings_what_it_was_given_to_its_end_and_takes_again_what_it_was_not() -> None:
    work = Work(left=2)
    talk = guest(CALLS, "l1", work)

    paths = _paths(talk, [_json(GIVEN), _json({"lease": "l"}), _json({})] * 2)

    assert paths == ["/v1/dispatch", "/v1/claim", "/v1/lease/complete"] * 2
    assert (work.left, work.done) == (0, 2)


def test_a_guest_never_asks_for_more_than_is_left() -> None:
    request = next(guest(CALLS, "l1", Work(left=1)))

    assert isinstance(request, bytes)
    assert json.loads(request.partition(b"\r\n\r\n")[2]).get("most", 1) == min(MOST, 1)


def test_a_guest_that_finds_nothing_fails() -> None:
    talk = guest(CALLS, "l1", Work(left=1))
    next(talk)

    with pytest.raises(BenchFailed, match="empty"):
        talk.send(Answer(204, b""))


def test_a_launcher_asks_again_until_something_comes_and_then_again() -> None:
    taken = Taken()
    talk = parked(CALLS, "l1", taken, opens_in_s=0.5)

    assert next(talk) == Pause(0.5)
    answers = [Answer(204, b"", 0.1), _json(GIVEN, 0.2), _json({"lease": "l"}, 0.3), _json({}, 0.4)]
    requests = [talk.send(Answer(0, b"")), *(talk.send(answer) for answer in answers)]

    assert [_path(request) for request in requests] == [
        "/v1/dispatch",
        "/v1/dispatch",
        "/v1/claim",
        "/v1/lease/complete",
        "/v1/dispatch",
    ]
    assert (taken.count, taken.at_s) == (1, 0.2)


def test_a_launcher_that_is_refused_waits_and_asks_again() -> None:
    taken = Taken()
    talk = parked(CALLS, "l1", taken, opens_in_s=0)
    next(talk)
    talk.send(Answer(0, b""))

    assert isinstance(talk.send(Answer(503, b"away")), Pause)
    assert _path(talk.send(Answer(0, b""))) == "/v1/dispatch"
    assert taken.refused == 1


def test_a_pusher_measures_all_but_the_first_pushes_of_its_turn_and_waits_for_each() -> None:
    taken, turn = Taken(), Turn(number=1)
    talk = pusher(CALLS, taken, turn, [2], unmeasured=1, measured=2)

    assert isinstance(next(talk), Pause), "it is another one's turn"
    turn.number = 2
    pushes = 0
    for _ in range(3):
        pushes += isinstance(talk.send(Answer(0, b"")), bytes)
        assert isinstance(talk.send(Answer(201, b"{}")), Pause), "it waits for the launcher"
        taken.count += 1
        assert isinstance(talk.send(Answer(0, b"")), Pause), "it lets the launcher wait again"
    with pytest.raises(StopIteration):
        talk.send(Answer(0, b""))

    assert (pushes, turn.number, [len(waits) for waits in taken.turns]) == (3, 3, [2])


def test_the_director_looks_before_and_after_a_while_once_all_turns_are_over() -> None:
    turn, looks = Turn(), 0

    def look() -> None:
        nonlocal looks
        looks += 1

    talk = director(turn, 2, begins_in_s=0.5, look=look, watch_s=7)

    assert next(talk) == Pause(0.5)
    talk.send(Answer(0, b""))
    assert (turn.number, looks) == (1, 0)
    turn.number = 3
    assert talk.send(Answer(0, b"")) == Pause(7)
    with pytest.raises(StopIteration):
        talk.send(Answer(0, b""))
    assert looks == 2


def test_fillers_share_the_chunks() -> None:
    chunks = iter([["a"], ["b"], ["c"]])
    one, other = filler(CALLS, chunks), filler(CALLS, chunks)

    sent = [next(one), next(other), one.send(Answer(201, b"{}"))]

    bodies = [request.partition(b"\r\n\r\n")[2] for request in sent if isinstance(request, bytes)]
    assert bodies == [b'{"url":"a"}\n', b'{"url":"b"}\n', b'{"url":"c"}\n']


def test_a_worker_of_beanstalkd_deletes_the_job_that_it_reserved() -> None:
    work = Work(left=1)
    talk = beanstalk.worker(work)

    sent = [next(talk), talk.send(Answer(0, b"RESERVED 17 1\r\nx\r\n"))]
    with pytest.raises(StopIteration):
        talk.send(Answer(0, b"DELETED\r\n"))

    assert sent == [b"reserve\r\n", b"delete 17\r\n"]
    assert work.done == 1


def test_a_percentile_lies_between_its_neighbours() -> None:
    assert percentile([float(value) for value in range(101)], 99) == 99.0


def _json(body: Any, at_s: float = 0.0) -> Answer:
    return Answer(200, json.dumps(body).encode(), at_s)


def _path(request: bytes | Pause) -> str:
    assert isinstance(request, bytes)
    return request.split(b" ")[1].decode()


def _paths(talk: Talk, answers: Sequence[Answer]) -> list[str]:
    """Hold a conversation to its end; return the paths that it called."""
    paths = [_path(next(talk)), *(_path(talk.send(answer)) for answer in answers[:-1])]
    with pytest.raises(StopIteration):
        talk.send(answers[-1])
    return paths
