"""Finding out what is to be told, in a moment where it is remembered: then little is imported, and no vm started."""

import asyncio
from dataclasses import replace
from pathlib import Path

from broker.wire.states import Accelerator, Exchange
from launcher.advertise.answer import MOST_IMAGES, Answer, CannotRun, launcher_version
from launcher.advertise.memory import circumstances, recall, remember
from launcher.exchange import rootdisk_probe
from launcher.hypervisor.accelerator import AcceleratorProbe, probe_accelerator
from launcher.hypervisor.account import Account
from launcher.hypervisor.emulator import find_emulator
from launcher.hypervisor.errors import HypervisorError
from launcher.images import CacheFailed, CacheFolder
from launcher.node.scratch import ScratchError, scratch_folder
from launcher.node.slot import NoRoom, Slot
from launcher.packages import Part, lacks
from launcher.settings import Settings, slot_of
from launcher.slot import SlotFacts

REASONS = (CannotRun, HypervisorError, CacheFailed, NoRoom, ScratchError, OSError)
"""What stands in the way of a launcher, as its sentences say."""


async def look(settings: Settings) -> Answer:
    """Return what is to be told of this node; some seconds the first time after its boot, later next to nothing."""
    facts = await asyncio.to_thread(slot_of, settings)
    answer = Answer(reason="", version=launcher_version(), vcpus=facts.vcpus.value, memory_mib=facts.memory_mib.value)
    try:
        cache = CacheFolder(settings.cache)
        await asyncio.to_thread(cache.prepare)
        account = Account.choose(settings.account)
        emulator = _emulator()
        probe = _as_set(settings, await probe_accelerator(account, cache.own, qemu=emulator))
        exchanges = await _exchanges(settings, account, emulator, cache.own)
        _check_room(facts, probe.accelerator)
        images = await asyncio.to_thread(cache.public_digests, MOST_IMAGES)
    except REASONS as error:
        return replace(answer, reason=str(error) or type(error).__name__)
    return replace(
        answer,
        can_run=True,
        reason=probe.reason,
        accelerator=probe.accelerator,
        exchanges=exchanges,
        images=tuple(images),
    )


def _emulator() -> str:
    found = find_emulator()
    if found is None:
        raise CannotRun(lacks("qemu-system-x86_64", Part.QEMU))
    return found


def _as_set(settings: Settings, probe: AcceleratorProbe) -> AcceleratorProbe:
    if settings.accelerator == "tcg":
        return AcceleratorProbe(Accelerator.TCG, "the launcher's settings say so")
    if settings.accelerator == "kvm" and probe.accelerator is not Accelerator.KVM:
        raise CannotRun(f"the launcher's settings ask for KVM: {probe.reason}")
    return probe


def _check_room(facts: SlotFacts, accelerator: Accelerator) -> None:
    Slot(
        vms=1,
        vcpus=facts.vcpus.value,
        memory_mib=facts.memory_mib.value,
        disk_mib=facts.disk_mib.value,
        accelerator=accelerator,
    ).check()


async def _exchanges(settings: Settings, account: Account, emulator: str, private: Path) -> tuple[Exchange, ...]:
    """Return which exchanges work where a vm can be started.

    Raises:
        REASONS: none can be.
    """
    with scratch_folder(settings.scratch) as scratch:
        now = await asyncio.to_thread(circumstances, settings, account, emulator)
        known = recall(private, now)
        if known is None:
            from launcher.advertise.trial import try_node  # noqa: PLC0415 - it doubles the time of an answer

            known = await try_node(settings, account, emulator, private, scratch)
            await asyncio.to_thread(remember, private, now, known)
    # It takes longer than anybody waits here: whether it works is known where a launcher has tried it.
    if rootdisk_probe.is_known_to_work(account, emulator, private):
        return (*known, Exchange.ROOTDISK)
    return known
