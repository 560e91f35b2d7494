"""From what items need to the job that serves them: its size, what its slot must have, and how many vms it holds."""

import hashlib
from dataclasses import replace
from typing import Final

import msgspec

from broker.wire.dispatches import Room
from broker.wire.jobs import Demand
from broker.wire.states import Accelerator, Exchange
from launcher.batch.order import Order
from launcher.batch.times import shown_span
from launcher.slot import LAUNCHER_MIB, QEMU_OVERHEAD_MIB

_BOOT_S: Final = {Accelerator.KVM: 300, Accelerator.TCG: 900}
"""The broker's defaults, for streams that set no boot limit of their own."""
_SHAPE_HEX: Final = 12
_MARGIN_S: Final = 300
"""From a job's start to its launcher's first offer: files that travel, probes."""


def shape_of(demand: Demand) -> str:
    """Return a digest of what a job for the demand must be; of two demands with the same, jobs serve both."""
    needs = (demand.vcpus, demand.memory_mib, demand.disk_mib, demand.accelerator, demand.exchange)
    return hashlib.sha256(msgspec.json.encode(needs)).hexdigest()[:_SHAPE_HEX]


def size_told(demand: Demand) -> str:
    """Say what one vm needs."""
    words = [f"{demand.vcpus} vcpus", f"{demand.memory_mib:,} MiB memory", f"{demand.disk_mib:,} MiB disk"]
    if demand.accelerator is not None:
        words.append(demand.accelerator.value)
    if demand.exchange is not Exchange.NETWORK:
        words.append(demand.exchange.value)
    return ", ".join(words)


def order_for(demand: Demand, base: Order, *, group: str | None) -> Order:
    """Return the order of jobs for the demand: at least what `base` has, and one vm of it at least.

    Args:
        demand: what is ready.
        base: what the operator says of every job.
        group: HTCondor's accounting group, in which the user is charged.
    """
    return replace(
        base,
        vcpus=max(base.vcpus, demand.vcpus),
        memory_mib=max(base.memory_mib, demand.memory_mib + QEMU_OVERHEAD_MIB + LAUNCHER_MIB),
        disk_mib=max(base.disk_mib, demand.disk_mib),
        users=(demand.user,),
        requirements=_requirements(demand, base.requirements),
        accounting=None if group is None else (group, demand.user),
    )


def why_not(demand: Demand, base: Order) -> str:
    """Say why no job of this provisioner could ever serve the demand; empty when one could."""
    boot_s = demand.boot_ms // 1000 if demand.boot_ms is not None else _BOOT_S[demand.accelerator or Accelerator.TCG]
    wanted_s = boot_s + demand.run_ms // 1000
    left_s = base.runtime_s - base.grace_s - _MARGIN_S
    if wanted_s <= left_s:
        return ""
    return (
        f"may need {shown_span(boot_s)} to boot and {shown_span(demand.run_ms // 1000)} to run (its run limit), and "
        f"jobs of {shown_span(base.runtime_s)} leave {shown_span(max(0, left_s))}: a shorter limits.run, or a longer "
        "--runtime, lets it start"
    )


def vms_of(order: Order, demand: Demand) -> int:
    """Return how many vms of the demand one job holds at a time."""
    room = Room(
        vcpus=order.vcpus,
        memory_mib=order.memory_mib - LAUNCHER_MIB - QEMU_OVERHEAD_MIB,
        disk_mib=order.disk_mib,
        accelerator=demand.accelerator or Accelerator.TCG,
        exchanges=(demand.exchange,),
    )
    fitting = max(1, fitting_in(room, demand))
    return fitting if order.vms is None else min(fitting, order.vms)


def fitting_in(room: Room, demand: Demand) -> int:
    """Return how many vms of the demand fit into a room that a launcher offers."""
    if demand.accelerator not in {None, room.accelerator} or demand.exchange not in room.exchanges:
        return 0
    # Of a room, QEMU's own memory for one vm is taken off already.
    by_memory = (room.memory_mib + QEMU_OVERHEAD_MIB) // (demand.memory_mib + QEMU_OVERHEAD_MIB)
    return max(0, min(room.vcpus // max(1, demand.vcpus), by_memory, room.disk_mib // max(1, demand.disk_mib)))


def _requirements(demand: Demand, base: str | None) -> str | None:
    wanted = [] if base is None else [f"({base})"]
    if demand.accelerator is not None:
        wanted.append(f'(VMBROKER_ACCELERATOR == "{demand.accelerator.value}")')
    if demand.exchange is not Exchange.NETWORK:
        wanted.append(f'stringListMember("{demand.exchange.value}", VMBROKER_EXCHANGES)')
    return " && ".join(wanted) or None
