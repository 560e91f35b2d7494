import libvirt
import pytest

from launcher.hypervisor.errors import Conflict, NoSuchVm, Rejected, Unavailable
from launcher.hypervisor.libvirt_tables import ERRORS, STOPPED, stop_by_event
from launcher.hypervisor.vm import StopReason


def constants(prefix: str) -> set[int]:
    return {value for name, value in vars(libvirt).items() if name.startswith(prefix) and not name.endswith("_LAST")}


def test_only_stopped_events_end_a_vm() -> None:
    others = constants("VIR_DOMAIN_EVENT_SHUTDOWN_") | {0}
    for event in (
        libvirt.VIR_DOMAIN_EVENT_STARTED,
        libvirt.VIR_DOMAIN_EVENT_RESUMED,
        libvirt.VIR_DOMAIN_EVENT_SHUTDOWN,
    ):
        assert {stop_by_event(event, detail) for detail in others} == {None}


@pytest.mark.parametrize("detail", sorted(constants("VIR_DOMAIN_EVENT_STOPPED_") | {99}))
def test_every_stopped_event_ends_a_vm(detail: int) -> None:
    assert stop_by_event(libvirt.VIR_DOMAIN_EVENT_STOPPED, detail) is STOPPED.get(detail, StopReason.GONE)


def test_every_translated_code_is_libvirts_and_becomes_an_error_of_ours() -> None:
    assert set(ERRORS) <= constants("VIR_ERR_")
    assert set(ERRORS.values()) == {Rejected, Conflict, NoSuchVm, Unavailable}
