"""What libvirt's events have told of each VM, for those who wait for its end."""

import asyncio
import contextlib
from collections import OrderedDict
from typing import Final

from launcher.hypervisor.libvirt_tables import is_shut_down_by_host, stop_by_event, stop_by_watchdog
from launcher.hypervisor.vm import StopReason

# libvirt removes a domain a moment before it sends the event that says why.
LAST_WORD_S: Final = 1.0
# Stops of VMs that nobody waits for (a site's libvirt runs others' too) are forgotten, oldest first.
REMEMBERED_STOPS: Final = 1024


class Watch:
    """One VM.

    Attributes:
        changed: Set when there is something new.
        reason: Why it stopped, once an event has said so.
        is_to_go: This launcher has asked for its end.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.reason: StopReason | None = None
        self.is_to_go = False
        self._by_host = False

    def on_lifecycle(self, event: int, detail: int) -> None:
        """Take note of a lifecycle event."""
        self._by_host = self._by_host or is_shut_down_by_host(event, detail)
        reason = stop_by_event(event, detail)
        if reason is StopReason.GUEST_SHUTDOWN and self._by_host:
            reason = StopReason.DESTROYED
        self._note(reason)

    def on_watchdog(self, action: int) -> None:
        """Take note of what the VM's watchdog did."""
        self._note(stop_by_watchdog(action))

    async def last_word(self, limit_s: float = LAST_WORD_S) -> StopReason:
        """Return why a VM that is not there any more stopped; waits a moment for the event that says it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                # Not any event will do: one that gives no reason, such as SHUTDOWN, may come before STOPPED.
                while self.reason is None:
                    self.changed.clear()
                    await self.changed.wait()
        # A libvirtd that is just finding its VMs again may end one without a word.
        return self.reason or (StopReason.DESTROYED if self.is_to_go else StopReason.GONE)

    def _note(self, reason: StopReason | None) -> None:
        self.reason = self.reason or reason
        self.changed.set()


class Watches:
    """The VMs of one libvirt, by UUID."""

    def __init__(self) -> None:
        self._watches: OrderedDict[str, Watch] = OrderedDict()

    def of(self, uuid: str) -> Watch:
        """Return the VM's, made if there is none."""
        watch = self._watches.setdefault(uuid, Watch())
        while len(self._watches) > REMEMBERED_STOPS:
            self._watches.popitem(last=False)
        return watch

    def forget(self, uuid: str) -> None:
        """Forget what was told of a VM, since another one gets its UUID."""
        self._watches.pop(uuid, None)

    def wake(self) -> None:
        """Have everybody look who waits."""
        for watch in self._watches.values():
            watch.changed.set()
