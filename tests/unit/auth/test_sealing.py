import base64
import json
from pathlib import Path

import pytest

from broker.auth.key_files import BadKeys
from broker.auth.keys import load_keys
from broker.auth.sealing import CannotUnseal, SealingKeys, with_new_key

VALUE = b"a secret of alice's"
ABOUT = ("alice", "proxy", "1")


@pytest.fixture
def keys() -> SealingKeys:
    return with_new_key({})


def test_what_was_sealed_is_unsealed(keys: SealingKeys) -> None:
    sealed = keys.seal(VALUE, *ABOUT)
    assert keys.unseal(sealed, *ABOUT) == VALUE
    assert VALUE not in base64.b64decode(sealed.partition(".")[2])


def test_the_same_value_is_sealed_differently_each_time(keys: SealingKeys) -> None:
    assert keys.seal(VALUE, *ABOUT) != keys.seal(VALUE, *ABOUT)


@pytest.mark.parametrize(
    "about", [("bob", "proxy", "1"), ("alice", "token", "1"), ("alice", "proxy", "2"), ("alicep", "roxy", "1")]
)
def test_a_sealed_text_opens_nothing_under_another_name_or_version(keys: SealingKeys, about: tuple[str, ...]) -> None:
    with pytest.raises(CannotUnseal, match="not this secret's"):
        keys.unseal(keys.seal(VALUE, *ABOUT), *about)


@pytest.mark.parametrize("change", [lambda text: text[:-4], lambda text: f"{text}AAAA", lambda text: text[:9] + "!"])
def test_a_changed_text_opens_nothing(keys: SealingKeys, change: "object") -> None:
    assert callable(change)
    with pytest.raises(CannotUnseal, match="changed in the store"):
        keys.unseal(change(keys.seal(VALUE, *ABOUT)), *ABOUT)


def test_a_key_that_is_gone_is_told_by_its_id(keys: SealingKeys) -> None:
    other = with_new_key({})
    with pytest.raises(CannotUnseal, match=f"{other.current} is not among the broker's keys"):
        keys.unseal(other.seal(VALUE, *ABOUT), *ABOUT)


def test_after_a_new_key_the_old_one_still_opens(keys: SealingKeys) -> None:
    new = with_new_key({})
    both = SealingKeys(new.current, {**keys.by_id, **new.by_id})
    assert both.unseal(keys.seal(VALUE, *ABOUT), *ABOUT) == VALUE
    assert both.seal(VALUE, *ABOUT).startswith(f"{new.current}.")


def test_the_keys_lie_in_a_file_of_the_brokers_alone_and_stay_the_same(tmp_path: Path) -> None:
    sealed = load_keys(tmp_path).sealing.seal(VALUE, *ABOUT)
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert load_keys(tmp_path).sealing.unseal(sealed, *ABOUT) == VALUE


@pytest.mark.parametrize(
    "text",
    ["", "{}", json.dumps({"current": "a", "keys": {}}), json.dumps({"current": "a", "keys": {"a": "c2hvcnQ="}})],
)
def test_a_file_that_holds_no_keys_keeps_the_broker_from_starting(tmp_path: Path, text: str) -> None:
    load_keys(tmp_path)
    (tmp_path / "secrets.json").write_text(text)
    with pytest.raises(BadKeys, match="restore them from a backup"):
        load_keys(tmp_path)
