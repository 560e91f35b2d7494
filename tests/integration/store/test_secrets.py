"""Secrets in the store: sealed texts by name and version, who is given items that need them, what is kept of them."""

import msgspec
import pytest

from broker.domain.errors import Conflict, Rejected
from broker.domain.limits import LIMITS, Limit
from broker.store import Claimed, Sealed, Store
from broker.store.keys import MASKS, Keys
from broker.wire.dispatches import EndVm
from broker.wire.names import DispatchId, OwnedName, UserName
from broker.wire.problems import ProblemCode
from broker.wire.secrets import SecretKind
from broker.wire.states import ItemState, Verdict
from broker.wire.streams import SecretUse
from tests.integration.store.scene import ALICE, RENDER, SPEC, Scene
from tests.support.stores import age

PROXY, LICENCE = OwnedName(ALICE, "proxy"), OwnedName(ALICE, "licence")
NEEDY = msgspec.structs.replace(SPEC, secrets=(SecretUse(name="proxy"),), trust=("renci", "unl"))
RUN_MS = 86_400_000


async def put(store: Store, ref: OwnedName = PROXY, text: str = "sealed") -> int:
    view = await store.put_secret(ref, SecretKind.FILE, 100, lambda version: f"{text} as {version}")
    return view.version


async def shown(store: Store, ref: OwnedName = PROXY) -> list[str]:
    return sorted(each.sealed for each in await store.shown_secrets([ref]))


async def claimed(scene: Scene) -> Claimed:
    """Let a trusted launcher's vm claim an item."""
    scene.labels = frozenset({"unl"})
    await scene.set_up(NEEDY, items=1)
    return await scene.claimed()


async def give(scene: Scene, to: Claimed, *refs: OwnedName) -> bool:
    sealed = await scene.store.sealed_secrets(refs or [PROXY])
    return await scene.store.give_secrets(to.item.ref, to.dispatch, list(sealed.values()), RUN_MS)


async def test_a_secret_is_told_of_by_everything_but_its_value(store: Store) -> None:
    first = await store.put_secret(PROXY, SecretKind.X509_PROXY, 1_234, lambda version: f"sealed as {version}")
    assert (first.secret, first.kind, first.size_bytes, first.version) == ("alice/proxy", "x509_proxy", 1_234, 1)
    again = await store.put_secret(PROXY, SecretKind.FILE, 10, lambda version: f"sealed as {version}")
    assert (again.version, again.kind, again.created_at) == (2, "file", first.created_at)
    assert await store.get_secret(PROXY) == again
    assert await store.sealed_secrets([PROXY, LICENCE]) == {"proxy": Sealed(PROXY, SecretKind.FILE, 2, "sealed as 2")}
    assert "sealed" not in msgspec.json.encode(again).decode()


async def test_secrets_are_listed_for_their_user_alone(store: Store) -> None:
    for ref in (PROXY, LICENCE, OwnedName(UserName("bob"), "proxy")):
        await put(store, ref)
    assert [view.secret for view in await store.list_secrets(ALICE)] == ["alice/licence", "alice/proxy"]
    assert await store.list_secrets(UserName("carol")) == []


async def test_a_version_is_given_once_whatever_was_removed(store: Store) -> None:
    assert await put(store) == 1
    assert await store.delete_secret(PROXY)
    assert not await store.delete_secret(PROXY)
    assert await store.get_secret(PROXY) is None
    assert await put(store) == 2
    assert await put(store, LICENCE) == 3


async def test_who_seals_to_a_version_that_somebody_took_seals_again(store: Store) -> None:
    """Another process put one in between: what is kept is sealed to the version that it is kept as."""
    account, sealed_as = store._keys.account(ALICE), list[int]()
    await put(store, LICENCE)
    old = store._server.act

    def seal(version: int) -> str:
        sealed_as.append(version)
        return f"sealed as {version}"

    async def act_after_another(arguments: object, *args: object, **more: object) -> object:
        store._server.act = old  # type: ignore[method-assign] # the store's own again
        await store._server.command("HINCRBY", account, "secret_version", 1)
        return await old(arguments, *args, **more)  # type: ignore[arg-type] # whatever it takes

    store._server.act = act_after_another  # type: ignore[assignment, method-assign] # one act late
    view = await store.put_secret(PROXY, SecretKind.FILE, 1, seal)
    assert sealed_as == [2, 3]
    assert (view.version, (await store.sealed_secrets([PROXY]))["proxy"].sealed) == (3, "sealed as 3")


async def test_no_user_has_more_than_may_be_but_may_replace_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, "user_secrets", Limit(1, "secrets", ProblemCode.QUOTA_EXCEEDED, ""))
    await put(store)
    with pytest.raises(Rejected, match="alice has 1 secrets, as many as may be: remove one first"):
        await put(store, LICENCE)
    assert await put(store) == 2
    assert await put(store, OwnedName(UserName("bob"), "proxy")) == 1


async def test_only_a_trusted_launcher_is_given_an_item_that_needs_secrets(scene: Scene) -> None:
    await scene.set_up(NEEDY, items=2)
    for labels in (frozenset[str](), frozenset({"other", "uni"})):
        scene.labels = labels
        assert await scene.offer() is None
    scene.labels = frozenset({"unl", "other"})
    given = await scene.dispatched()
    assert await scene.store.trusted_as(given.dispatch) == "unl"
    assert await scene.store.secrets_of_vm(given.dispatch) == [PROXY]


async def test_who_is_not_trusted_gets_what_comes_after(scene: Scene) -> None:
    await scene.set_up(NEEDY, items=1)
    plain = RENDER._replace(name="plain")
    await scene.set_up(SPEC, items=1, ref=plain)
    given = [await scene.offer() for _ in range(2)]
    assert [each.item.ref.stream for each in given if each is not None] == [plain]


async def test_of_a_stream_without_secrets_nothing_is_noted(scene: Scene) -> None:
    scene.labels = frozenset({"unl"})
    await scene.push(1)
    given = await scene.dispatched()
    assert "trusted" not in await scene.store._vm(given.dispatch)
    assert await scene.store.secrets_of_vm(given.dispatch) == []


async def test_launchers_for_items_that_need_secrets_are_asked_of_those_that_are_trusted(scene: Scene) -> None:
    await scene.set_up(NEEDY, items=2)
    assert (await scene.store.demand(lambda user: True)).demands == []
    [demand] = (await scene.store.demand(lambda user: True, frozenset({"renci"}))).demands
    assert demand.user == ALICE


async def test_what_is_given_is_an_event_that_names_secret_version_and_vm(scene: Scene) -> None:
    await put(scene.store)
    vm = await claimed(scene)
    assert await give(scene, vm)
    last = (await scene.store.read_events(RENDER, None, 1_000)).events[-1]
    assert (last.kind, last.subject) == ("secret.given", str(vm.item.ref))
    assert last.data == {"dispatch": vm.dispatch, "fence": 1, "secret": "proxy", "version": 1}


async def test_what_was_replaced_since_it_was_read_is_not_given(scene: Scene) -> None:
    await put(scene.store)
    vm = await claimed(scene)
    sealed = list((await scene.store.sealed_secrets([PROXY])).values())
    await put(scene.store)
    assert not await scene.store.give_secrets(vm.item.ref, vm.dispatch, sealed, RUN_MS)
    await scene.store.delete_secret(PROXY)
    assert not await scene.store.give_secrets(vm.item.ref, vm.dispatch, sealed, RUN_MS)
    assert "secret.given" not in await scene.events()


async def test_a_vm_that_lost_its_item_is_given_nothing(scene: Scene) -> None:
    await put(scene.store)
    vm = await claimed(scene)
    await scene.store.cancel(vm.item.ref, by="alice")
    with pytest.raises(Conflict) as refused:
        await give(scene, vm)
    assert refused.value.code is ProblemCode.LEASE_LOST
    assert "secret.given" not in await scene.events()


async def test_a_value_that_no_vm_was_given_is_gone_when_it_is_removed(store: Store) -> None:
    await put(store)
    await put(store)
    assert await shown(store) == ["sealed as 2"]
    await store.delete_secret(PROXY)
    assert await shown(store) == []
    assert await store._server.command("EXISTS", store._keys.masks(PROXY)) == 0


async def test_values_that_vms_were_given_are_kept_while_those_may_show_them(scene: Scene) -> None:
    await put(scene.store)
    vm = await claimed(scene)
    await give(scene, vm)
    await put(scene.store)
    await give(scene, vm)
    await scene.store.delete_secret(PROXY)
    assert await shown(scene.store) == ["sealed as 1", "sealed as 2"]
    assert await scene.store.sealed_secrets([PROXY]) == {}
    life_ms = await scene.store._server.command("PTTL", scene.store._keys.masks(PROXY))
    assert RUN_MS < life_ms <= RUN_MS + 3_600_000


async def test_nothing_is_kept_of_a_value_once_the_vms_that_had_it_are_over(scene: Scene) -> None:
    await put(scene.store)
    vm = await claimed(scene)
    await give(scene, vm)
    await age(scene.store, RUN_MS + 3_600_000)
    await scene.store.delete_secret(PROXY)
    assert await shown(scene.store) == []


async def test_no_more_than_so_many_old_values_are_kept(scene: Scene) -> None:
    await put(scene.store)
    vm = await claimed(scene)
    for _ in range(MASKS + 2):
        await give(scene, vm)
        await put(scene.store)
    masks = await scene.store._server.command("HKEYS", scene.store._keys.masks(PROXY))
    assert sorted(map(int, masks)) == list(range(3, MASKS + 3))


async def test_an_item_whose_secrets_are_withheld_is_held_and_its_stream_paused(scene: Scene) -> None:
    vm = await claimed(scene)
    await scene.push(1)
    for _ in range(2):
        await scene.store.withhold(vm.item.ref, vm.dispatch, "secret_missing", "it is not there")
    item = await scene.item()
    assert item.reason is not None
    assert (item.state, item.reason.code, item.reason.sentence) == (
        ItemState.HELD,
        "secret_missing",
        "it is not there; then `broker release alice/render/1` and `broker resume alice/render`",
    )
    assert [(await scene.events()).count(kind) for kind in ("item.held", "stream.paused")] == [1, 1]
    stream = await scene.store.get_stream(RENDER)
    assert stream is not None
    assert stream.paused is not None
    assert (stream.paused.code, stream.paused.sentence) == ("secret_missing", "it is not there")
    assert await scene.offer() is None
    end = EndVm(launcher=scene.launcher, verdict=Verdict.STOPPED_EARLY, sentence="")
    ended = await scene.store.end(vm.dispatch, scene.launcher, end, has_console=False)
    assert (ended.verdict, ended.state) == (Verdict.ITEM_FAILED, "held")


async def test_an_item_that_another_vm_has_is_not_held(scene: Scene) -> None:
    vm = await claimed(scene)
    await scene.store.withhold(
        vm.item.ref, DispatchId("00000000-0000-4000-8000-000000000000"), "secret_missing", "it is not there"
    )
    assert (await scene.item()).state is ItemState.RUNNING


def test_names_of_a_users_secrets_begin_alike() -> None:
    keys = Keys("vmb")
    assert keys.secret(PROXY) == f"{keys.secrets_of(ALICE)}proxy"
