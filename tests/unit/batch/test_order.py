"""What no batch system could take is refused before anything is submitted, every fault at once."""

from pathlib import Path

import pytest

from launcher.batch.errors import Refused
from launcher.batch.order import MAX_SLOTS, check_order, check_place, check_slots
from tests.unit.batch.orders import order


def test_an_order_as_people_give_it_is_taken() -> None:
    check_order(order())
    check_order(order(users=("alice",), accounting=("group_vmbroker", "alice"), scratch="/scratch", cache="/cache"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vcpus": 0}, "--vcpus is 0"),
        ({"memory_mib": 100}, "--memory-mib is 100"),
        ({"disk_mib": 0}, "--disk-mib is 0"),
        ({"runtime_s": 60}, "--runtime is 60 s"),
        ({"runtime_s": 90 * 86_400}, "to 30 days"),
        ({"launcher": None}, "name either a bundle"),
        ({"launcher": "bin/launcher"}, "begins with no /"),
        ({"launcher": None, "bundle": Path("/nowhere/b.tar.gz")}, "is no file"),
        ({"scratch": "here"}, "--scratch 'here' begins with no /"),
        ({"cache": "~/cache"}, "--cache '~/cache' begins with no /"),
        ({"requirements": "A\nB"}, "--requirements has a control character"),
        ({"options": (("A", "x\ny"),)}, "--option A has a control character"),
        ({"requirements": "true) || (true"}, "its brackets do not match"),
        ({"requirements": '(A == "("'}, "its brackets do not match"),
        ({"users": ('a" b',)}, "is no name of a user"),
        ({"accounting": ('g"', "alice")}, "--accounting-group"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(changes: dict[str, object], said: str) -> None:
    with pytest.raises(Refused, match=said.replace("(", r"\(")):
        check_order(order(**changes))


def test_brackets_within_a_text_are_no_brackets() -> None:
    check_order(order(requirements='(Name == "a)") && (Other == "(")'))


def test_a_bundle_whose_name_a_list_or_a_shell_would_take_apart_is_refused(tmp_path: Path) -> None:
    bundle = tmp_path / "my, bundle.tar.gz"
    bundle.write_bytes(b"")
    with pytest.raises(Refused, match="give the file a name of letters"):
        check_order(order(launcher=None, bundle=bundle))


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(Refused) as refused:
        check_order(order(vcpus=0, memory_mib=1, launcher="x"))
    assert len(str(refused.value).splitlines()) == 3


@pytest.mark.parametrize("slots", [0, -1, MAX_SLOTS + 1])
def test_a_number_of_jobs_out_of_bounds_is_refused(slots: int) -> None:
    with pytest.raises(Refused, match=r"ask for 1 to 10,000"):
        check_slots(slots)


@pytest.mark.parametrize("name", ["a b", "a,b", "a:b", "a%b", "a$b", 'a"b', "a'b"])
def test_a_folder_that_a_reader_of_its_path_would_take_apart_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="name another --folder"):
        check_place(Path("/home/alice", name))
