"""The real launcher, with a clock at its borders: `python -m bench.traced_launcher TRACE run …`.

Nothing of the launcher is replaced: the calls by which it meets the broker and libvirt are wrapped, and each appends a
line to the file TRACE. A line is a moment: what happened, to which dispatch, when, and what this process had used.
"""

import contextlib
import functools
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import libvirt
import msgspec
from lxml import etree

from bench.trace import Moment, What
from broker.client.dispatch import DispatchClient
from launcher.cli import main
from launcher.hypervisor.hypervisor import Hypervisor


class Trace:
    """Appends moments to a file; a line is one write, so threads may share it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, what: What, dispatch: str, *, run_folder_bytes: int = 0) -> None:
        moment = Moment(
            what=what,
            dispatch=dispatch,
            at_ns=time.time_ns(),
            cpu_s=_cpu_s(),
            written_bytes=_written_bytes(),
            run_folder_bytes=run_folder_bytes,
        )
        os.write(self._descriptor, msgspec.json.encode(moment) + b"\n")


def install(trace: Trace) -> None:
    """Put the clock at the launcher's borders."""
    _trace_broker(trace)
    _trace_hypervisor(trace)
    create, destroy = libvirt.virConnect.createXML, libvirt.virDomain.destroy

    @functools.wraps(create)
    def traced_create(connection: Any, xml: str, flags: int = 0) -> Any:
        dispatch, folder = _vm_of(xml)
        trace.note("create", dispatch, run_folder_bytes=allocated_bytes(folder))
        try:
            return create(connection, xml, flags)
        finally:
            trace.note("created", dispatch)

    @functools.wraps(destroy)
    def traced_destroy(domain: Any) -> Any:
        dispatch = domain.UUIDString()
        trace.note("destroy", dispatch)
        try:
            return destroy(domain)
        finally:
            trace.note("destroyed", dispatch)

    libvirt.virConnect.createXML, libvirt.virDomain.destroy = traced_create, traced_destroy


def _trace_broker(trace: Trace) -> None:
    dispatch, end = DispatchClient.dispatch, DispatchClient.end

    async def traced_dispatch(client: DispatchClient, *given: Any, **named: Any) -> Any:
        answer = await dispatch(client, *given, **named)
        if answer is not None:
            trace.note("taken", answer.dispatch)
        return answer

    async def traced_end(client: DispatchClient, name: str, *given: Any, **named: Any) -> Any:
        trace.note("end", name)
        answer = await end(client, name, *given, **named)
        trace.note("ended", name)
        return answer

    _replace(DispatchClient, "dispatch", traced_dispatch)
    _replace(DispatchClient, "end", traced_end)


def _trace_hypervisor(trace: Trace) -> None:
    wait_stopped = Hypervisor.wait_stopped

    async def traced_wait(hypervisor: Hypervisor, uuid: str) -> Any:
        reason = await wait_stopped(hypervisor, uuid)
        trace.note("stopped", uuid)
        return reason

    _replace(Hypervisor, "wait_stopped", traced_wait)


def _replace(owner: type, name: str, wrapped: Callable[..., Awaitable[Any]]) -> None:
    setattr(owner, name, functools.wraps(getattr(owner, name))(wrapped))


def _vm_of(xml: str) -> tuple[str, Path]:
    domain = etree.fromstring(xml.encode())
    console = domain.find("devices/serial/source")
    assert console is not None, "every vm of a launcher has a console log"
    return domain.findtext("uuid", ""), Path(console.get("path", "")).parent


def allocated_bytes(folder: Path) -> int:
    """Return what the files below `folder`, and it itself, take on disk."""
    taken = folder.lstat().st_blocks
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            taken += path.lstat().st_blocks
    return taken * 512


def _cpu_s() -> float:
    """Return the CPU time of this process and of the children it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _written_bytes() -> int:
    """Return what this process and the children it has waited for gave to the disk. Source: proc(5), /proc/pid/io."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


if __name__ == "__main__":
    install(Trace(Path(sys.argv.pop(1))))
    sys.argv[0] = "launcher"
    main()
