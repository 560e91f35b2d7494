import errno

import pytest

from broker.client.session import Unreachable
from broker.wire.states import HealthCode, Verdict
from launcher.domain_xml import NoMachineType, UnsafeOutput
from launcher.exchange.programs import ProgramFailed
from launcher.exchange.rootdisk import NoRootFileSystem
from launcher.hypervisor.errors import QemuFailed, Rejected, Unavailable
from launcher.hypervisor.vm import StopReason
from launcher.images import BadImage, CacheFailed, ImageUnavailable
from launcher.node.verdicts import STOPPED, failed

FAILURES: list[tuple[Exception, Verdict, HealthCode | None]] = [
    (Rejected("300 vcpus"), Verdict.XML_REFUSED, None),
    (BadImage("damaged"), Verdict.IMAGE_ERROR, None),
    (NoRootFileSystem("none"), Verdict.IMAGE_ERROR, None),
    (ImageUnavailable("away"), Verdict.HOST_ERROR, HealthCode.IMAGE_SOURCE_AWAY),
    (CacheFailed("read-only"), Verdict.HOST_ERROR, HealthCode.IMAGE_CACHE_FAILED),
    (Unreachable("no answer"), Verdict.NETWORK_CUT, HealthCode.NETWORK_CUT),
    (OSError(errno.ENOSPC, "full"), Verdict.HOST_ERROR, HealthCode.DISK_FULL),
    (OSError(errno.EDQUOT, "quota"), Verdict.HOST_ERROR, HealthCode.DISK_FULL),
    (OSError(errno.EIO, "broken"), Verdict.HOST_ERROR, HealthCode.DISK_FAILED),
    (OSError(errno.EMFILE, "files"), Verdict.HOST_ERROR, HealthCode.LAUNCHER_FAILED),
    (ProgramFailed("mkfs.ext4: No space left on device"), Verdict.HOST_ERROR, HealthCode.DISK_FULL),
    (ProgramFailed("virtiofsd ended"), Verdict.HOST_ERROR, HealthCode.EXCHANGE_FAILED),
    (NoMachineType("pc-q35-99"), Verdict.HOST_ERROR, HealthCode.QEMU_FAILED),
    (QemuFailed("cannot allocate memory"), Verdict.HOST_ERROR, HealthCode.QEMU_FAILED),
    (Unavailable("no answer"), Verdict.HOST_ERROR, HealthCode.LIBVIRT_FAILED),
    (UnsafeOutput(["/: faulty"]), Verdict.HOST_ERROR, HealthCode.LAUNCHER_FAILED),
    (TimeoutError(), Verdict.HOST_ERROR, HealthCode.LAUNCHER_FAILED),
    (KeyError("a bug"), Verdict.HOST_ERROR, HealthCode.LAUNCHER_FAILED),
]


@pytest.mark.parametrize(("error", "verdict", "code"), FAILURES, ids=lambda value: repr(value)[:40])
def test_every_failure_has_one_ending(error: Exception, verdict: Verdict, code: HealthCode | None) -> None:
    ending = failed(error)
    assert (ending.verdict, ending.code) == (verdict, code)
    assert ending.sentence


@pytest.mark.parametrize("reason", StopReason)
def test_every_stop_has_one_ending_and_a_code_where_the_node_may_be_at_fault(reason: StopReason) -> None:
    ending = STOPPED[reason]
    may_be_nodes = ending.verdict is Verdict.HOST_ERROR or reason is StopReason.FAILED
    assert (ending.code is not None) == may_be_nodes
