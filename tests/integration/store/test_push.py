import asyncio

import msgspec
import pytest

from broker.domain.errors import Rejected
from broker.store import Store
from broker.store.records import encode_json
from broker.wire.items import NewItem
from broker.wire.names import ItemRef, StreamRef
from broker.wire.problems import ProblemCode
from broker.wire.states import ItemState
from tests.integration.store.scene import ALICE, RENDER, Scene, lease_of

ITEMS = [NewItem(url="https://share.example/a", name="a", params={"seed": "1"}), NewItem()]


async def test_items_are_numbered_in_order_and_kept_as_pushed(scene: Scene) -> None:
    pushed = await scene.store.push(RENDER, ITEMS, idempotency_key=None, body_digest="")
    assert (pushed.first, pushed.last, pushed.accepted, pushed.durability) == (1, 2, 2, "fsync")
    first, second = await scene.item(1), await scene.item(2)
    assert (first.state, first.url, first.name, first.params) == (ItemState.READY, ITEMS[0].url, "a", {"seed": "1"})
    assert (second.url, second.name, second.params) == (None, None, {})
    assert await scene.counts() == {"ready": 2}


async def test_further_inputs_are_kept_counted_and_given_with_the_item(scene: Scene) -> None:
    inputs = {"reference": "file:alice/genome.fa", "mask": "https://share.example/mask"}
    await scene.store.push(RENDER, [*ITEMS, NewItem(inputs=inputs)], idempotency_key=None, body_digest="")
    assert [(await scene.item(number)).inputs for number in (1, 2, 3)] == [{}, {}, inputs]
    used = (await scene.store.get_user(ALICE)).bytes
    await scene.prove()
    given = [await scene.dispatched() for _ in range(3)]
    assert [each.item.inputs for each in given] == [{}, {}, inputs]
    claimed = await scene.claim(given[2])
    assert claimed.item.inputs == inputs
    assert (await scene.store.leased(lease_of(claimed))).item.inputs == inputs
    assert used == sum(len(text) for text in ("https://share.example/a", "a", '{"seed":"1"}', encode_json(inputs)))


async def test_repeated_push_with_its_key_gets_the_first_answer_and_adds_nothing(scene: Scene) -> None:
    pushes = [scene.store.push(RENDER, ITEMS, idempotency_key="k/0", body_digest="digest") for _ in range(3)]
    answers = await asyncio.gather(*pushes)
    assert sorted(answer.repeated for answer in answers) == [False, True, True]
    assert len({msgspec.structs.replace(answer, repeated=False) for answer in answers}) == 1
    assert await scene.counts() == {"ready": 2}
    assert await scene.events() == ["stream.created", "items.pushed"]


async def test_key_of_another_body_is_refused(scene: Scene) -> None:
    await scene.store.push(RENDER, ITEMS, idempotency_key="k/0", body_digest="digest")
    with pytest.raises(Rejected, match="use a new key") as caught:
        await scene.store.push(RENDER, ITEMS, idempotency_key="k/0", body_digest="another")
    assert caught.value.code == ProblemCode.KEY_REUSED


async def test_push_to_a_stream_that_is_not_there_is_refused(store: Store) -> None:
    with pytest.raises(Rejected) as caught:
        await store.push(StreamRef(ALICE, "none"), ITEMS, idempotency_key=None, body_digest="")
    assert caught.value.code == ProblemCode.NOT_FOUND


@pytest.mark.parametrize("number", [0, 501])
async def test_push_of_none_or_too_many_is_refused(scene: Scene, number: int) -> None:
    with pytest.raises(Rejected, match="push 1 to 500"):
        await scene.push(number)


async def test_full_push_of_the_largest_size_is_taken(scene: Scene) -> None:
    pushed = await scene.push(500)
    assert pushed.last == 500
    assert (await scene.item(500)).url == "https://share.example/499"


async def test_item_that_was_never_pushed_is_none(scene: Scene) -> None:
    assert await scene.store.get_item(ItemRef(RENDER, 1)) is None


async def test_pages_by_number_show_every_item_once(scene: Scene) -> None:
    await scene.push(25)
    assert await _all_pages(scene, None, limit=10) == list(range(1, 26))


async def test_ready_items_are_found_behind_many_that_are_not(scene: Scene) -> None:
    await scene.push(25)
    await scene.prove()
    for _ in range(24):
        await scene.dispatched()
    assert await _all_pages(scene, ItemState.READY, limit=2) == [25]
    # By time, of which several may have the same.
    assert sorted(await _all_pages(scene, ItemState.DISPATCHED, limit=7)) == list(range(1, 25))


async def test_wrong_cursor_is_refused(scene: Scene) -> None:
    with pytest.raises(Rejected, match="no cursor"):
        await scene.store.list_items(RENDER, None, "half", 10)


async def _all_pages(scene: Scene, state: ItemState | None, limit: int) -> list[int]:
    numbers, cursor = [], None
    for _ in range(30):
        page = await scene.store.list_items(RENDER, state, cursor, limit)
        numbers += [int(view.item.rpartition("/")[2]) for view in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return numbers
    raise AssertionError("the pages do not end")
