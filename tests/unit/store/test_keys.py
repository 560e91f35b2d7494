from uuid import uuid4

from broker.store.key_kinds import KEY_KINDS
from broker.store.keys import SHARD_TAG, Keys
from broker.wire.names import DispatchId, ItemRef, MachineRef, OwnedName, StreamRef, UserName

KEYS = Keys("vmb")
ALICE = UserName("alice")
STREAM = StreamRef(ALICE, "render.v2")


def _built() -> set[str]:
    stream = KEYS.of_stream(STREAM)
    # The prefixes become names with a number or id, the bells are channels.
    whole = set(
        stream._replace(
            items="",
            vms="",
            ready_of="",
            bell="",
            ready_bell="",
            launchers_of="",
            reports="",
            holds_of="",
            outbox_bell="",
        )
    ) - {""}
    return whole | {
        KEYS.item(ItemRef(STREAM, 17)),
        f"{stream.ready_of}2",
        KEYS.vm(DispatchId(str(uuid4()))),
        KEYS.machine(MachineRef(ALICE, "deb12")),
        KEYS.machines(ALICE),
        KEYS.removed_machines(ALICE),
        KEYS.readers(MachineRef(ALICE, "deb12")),
        KEYS.machine_streams(MachineRef(ALICE, "deb12")),
        KEYS.secret(OwnedName(ALICE, "proxy")),
        f"{KEYS.secrets_of(ALICE)}proxy",
        KEYS.secrets(ALICE),
        KEYS.masks(OwnedName(ALICE, "proxy")),
        *(f"{of}alice" for of in (KEYS.out_of, KEYS.delivered_of, KEYS.dead_of, KEYS.callback_ids_of)),
        KEYS.callback(ALICE, "1764373123456-0"),
        KEYS.grants,
        KEYS.ungranted,
        KEYS.unnamed,
        KEYS.images(ALICE),
        KEYS.clock,
        KEYS.launcher("local/node1"),
        f"{KEYS.launchers_of}local",
        KEYS.submitters,
        f"{KEYS.submitters_of}local",
        f"{KEYS.told_of}local/vmb-1",
        KEYS.push_key(STREAM, "any key: with anything in it"),
        KEYS.dispatch_key("launcher", "key"),
        f"{KEYS.holds_of}00000000-0000-4000-8000-000000000000",
        KEYS.code("0" * 64),
        KEYS.token("00000000-0000-4000-8000-000000000000"),
        KEYS.tokens("site/renci"),
        KEYS.sites,
        KEYS.revoked,
        KEYS.revocations,
    }


def test_every_name_that_is_built_is_of_a_listed_kind_and_every_kind_is_built() -> None:
    kinds = [KEYS.kind_of(key) for key in _built()]
    assert None not in kinds
    assert set(kinds) == set(KEY_KINDS)


def test_every_name_carries_the_shards_tag() -> None:
    assert all(f":{SHARD_TAG}:" in key for key in {*_built(), *KEYS.of_stream(STREAM)})


def test_prefixes_lead_to_the_names_of_items_and_vms() -> None:
    stream = KEYS.of_stream(STREAM)
    assert f"{stream.items}17" == KEYS.item(ItemRef(STREAM, 17))
    assert f"{stream.vms}abc" == KEYS.vm(DispatchId("abc"))


def test_prefixes_lead_to_the_names_of_machines_and_of_the_streams_that_name_one() -> None:
    deb12 = MachineRef(ALICE, "deb12")
    assert f"{KEYS.machines_of(ALICE)}deb12" == KEYS.machine(deb12)
    assert f"{KEYS.machine_streams('')}alice/deb12" == KEYS.machine_streams(deb12)


def test_name_of_another_prefix_or_shape_is_of_no_kind() -> None:
    assert KEYS.kind_of("other:{s0}:ring") is None
    assert KEYS.kind_of("vmb:{s0}:rings") is None
    assert KEYS.kind_of("vmb:{s0}:item:alice/render/0x1") is None


def test_keys_of_one_stream_never_meet_those_of_another() -> None:
    other = KEYS.of_stream(StreamRef(UserName("alice.render"), "v2"))
    shared = {
        "vms",
        "bulks",
        "ring",
        "fair",
        "deadlines",
        "due",
        "keep",
        "launchers",
        "launchers_of",
        "reports",
        "holds_of",
        "life",
        "ready_bell",
        "owing",
        "outbox_bell",
    }
    same = {name for name, a, b in zip(other._fields, other, KEYS.of_stream(STREAM), strict=True) if a == b}
    assert same == shared
