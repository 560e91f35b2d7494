from datetime import timedelta
from pathlib import Path

import pytest

from broker.auth import rotation
from broker.auth.key_files import BadKeys
from broker.auth.keys import BrokerKeys, load_keys, remember_issuer
from broker.auth.rotation import MOST_KEYS, PUBLISHED_BEFORE, drop, list_keys, rotate
from broker.auth.tokens import Tokens
from broker.domain.errors import Rejected
from broker.domain.scopes import scopes_of_user

LIFE = timedelta(days=30)
WAIT_S = int(PUBLISHED_BEFORE.total_seconds())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    load_keys(tmp_path / "keys")
    return tmp_path / "keys"


def kid_of(keys: BrokerKeys) -> str:
    return str(keys.signing.kid)


def test_a_new_key_is_published_at_once_and_signs_when_others_know_it(folder: Path) -> None:
    now = [1_000]
    running = BrokerKeys(folder, lambda: now[0])
    old = kid_of(running)
    rotate(folder, at_once=False, now_s=now[0])

    assert running.look_again()
    assert len(running.published["keys"]) == 2
    assert kid_of(running) == old
    now[0] += WAIT_S - 1
    assert kid_of(running) == old
    now[0] += 1
    assert kid_of(running) != old


def test_a_key_that_others_know_is_replaced_at_once(folder: Path) -> None:
    running = BrokerKeys(folder, lambda: 1_000)
    old = kid_of(running)
    rotate(folder, at_once=True, now_s=1_000)

    running.look_again()
    assert kid_of(running) != old


def test_what_another_process_made_with_a_new_key_is_good_here_before_the_next_look(folder: Path) -> None:
    here, other = load_keys(folder), load_keys(folder)
    tokens = Tokens(here)
    rotate(folder, at_once=True, now_s=1_000)
    other.look_again()

    token = Tokens(other).issue("alice", scopes_of_user("alice"), LIFE)
    assert tokens.verify(token).subject == "alice"
    made = other.mac.make("x")
    assert load_keys(folder).mac.current == other.mac.current
    assert here.mac.verify(other.mac.current, made, "x")


def test_what_an_old_key_made_is_good_until_the_key_is_dropped(folder: Path) -> None:
    keys = load_keys(folder)
    token, mac, old_mac = (
        Tokens(keys).issue("alice", scopes_of_user("alice"), LIFE),
        keys.mac.make("x"),
        keys.mac.current,
    )
    old = kid_of(keys)
    rotate(folder, at_once=True, now_s=1_000)
    keys.look_again()
    assert Tokens(keys).verify(token).subject == "alice"
    assert keys.mac.verify(old_mac, mac, "x")

    drop(folder, old, now_s=1_000)
    drop(folder, old_mac, now_s=1_000)
    keys.look_again()
    with pytest.raises(Rejected, match="did not issue it"):
        Tokens(keys).verify(token)
    assert not keys.mac.verify(old_mac, mac, "x")
    assert [key.is_current for key in list_keys(folder, now_s=1_000)] == [True, True, False, True]


def test_no_key_is_dropped_that_makes_something_or_that_is_none(folder: Path) -> None:
    keys = load_keys(folder)
    for key_id in (kid_of(keys), keys.mac.current):
        with pytest.raises(BadKeys, match="is in use"):
            drop(folder, key_id, now_s=1_000)
    with pytest.raises(BadKeys, match="there is no key nothing"):
        drop(folder, "nothing", now_s=1_000)


def test_keys_do_not_grow_without_bound(folder: Path) -> None:
    for _ in range(MOST_KEYS - 1):
        rotate(folder, at_once=True, now_s=1_000)

    with pytest.raises(BadKeys, match="drop an old one first"):
        rotate(folder, at_once=True, now_s=1_000)
    for url in range(rotation.MOST_KEYS):
        remember_issuer(folder, f"https://broker-{url}.example")
    assert len(load_keys(folder).issuers) == MOST_KEYS + 1


def test_nobody_rotates_where_there_are_no_keys(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(BadKeys, match="there are no keys of a broker"):
        rotate(tmp_path / "empty", at_once=True, now_s=1_000)


def test_files_that_became_unreadable_leave_a_running_broker_its_keys(folder: Path) -> None:
    keys = load_keys(folder)
    token = Tokens(keys).issue("alice", scopes_of_user("alice"), LIFE)
    (folder / "signing.json").write_text("{")

    assert not keys.look_again()
    assert "restore them from a backup" in str(keys.fault)
    assert Tokens(keys).verify(token).subject == "alice"


def test_a_token_stays_good_when_the_broker_gets_another_address(folder: Path) -> None:
    remember_issuer(folder, "https://old.example")
    token = Tokens(load_keys(folder), public_url="https://old.example").issue("alice", scopes_of_user("alice"), LIFE)
    local = Tokens(load_keys(folder)).issue("alice", scopes_of_user("alice"), LIFE)

    remember_issuer(folder, "https://new.example")
    tokens = Tokens(load_keys(folder), public_url="https://new.example")
    assert tokens.issuer == "https://new.example"
    assert {tokens.verify(each).subject for each in (token, local)} == {"alice"}
