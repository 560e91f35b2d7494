import pytest

from launcher.domain_xml.machine_types import Family, NoMachineType, family_of, on_host

DEBIAN = ("pc", "q35", "pc-i440fx-7.2", "pc-i440fx-2.12", "pc-q35-7.2", "pc-q35-2.12", "pc-q35-4.0.1", "microvm")
RHEL = ("pc", "q35", "pc-i440fx-rhel7.6.0", "pc-q35-rhel8.6.0", "pc-q35-rhel9.2.0", "pc-q35-rhel9.0.0")


@pytest.mark.parametrize(
    ("machine_type", "family"),
    [
        ("pc", Family.I440FX),
        ("pc-0.12", Family.I440FX),
        ("pc-1.3", Family.I440FX),
        ("rhel5.4.0", Family.I440FX),
        ("rhel6.6.0", Family.I440FX),
        ("fedora-13", Family.I440FX),
        ("ubuntu", Family.I440FX),
        ("pc-i440fx-bionic", Family.I440FX),
        ("q35", Family.Q35),
        ("ubuntu-q35", Family.Q35),
        ("pc-q35-focal", Family.Q35),
        ("pc-q35-rhel9.4.0", Family.Q35),
        ("microvm", None),
        ("isapc", None),
        ("xenfv-4.2", None),
        ("virt-7.2", None),
        ("pc-q35-", None),
    ],
)
def test_a_machine_type_has_a_family_whatever_its_distribution_calls_it(
    machine_type: str, family: Family | None
) -> None:
    assert family_of(machine_type) is family


@pytest.mark.parametrize(
    ("machine_type", "known", "expected"),
    [
        ("pc-q35-2.12", DEBIAN, "pc-q35-2.12"),
        ("q35", DEBIAN, "q35"),
        ("pc-q35-rhel9.4.0", DEBIAN, "pc-q35-7.2"),
        ("ubuntu-q35", RHEL, "pc-q35-rhel9.2.0"),
        ("rhel6.6.0", RHEL, "pc-i440fx-rhel7.6.0"),
        ("pc-q35-9.0", ("q35", "pc"), "q35"),
    ],
)
def test_an_unknown_type_becomes_the_newest_of_its_family(
    machine_type: str, known: tuple[str, ...], expected: str
) -> None:
    assert on_host(machine_type, known) == expected


def test_a_host_without_the_family_is_an_error() -> None:
    with pytest.raises(NoMachineType, match="in place of 'rhel6"):
        on_host("rhel6.6.0", ("q35", "pc-q35-10.0"))
