"""Which of all that is said of a slot holds.

A person's word stands, but for memory that the kernel would kill for. Of the batch systems the first that says a size
is believed, since one may run inside the other: HTCondor, Slurm, PBS, Machine/Job Features. What the kernel enforces
and what the node has bounds that. The end is the earliest that anybody says.

Memory that a batch system or the kernel counts has the launcher's own in it, which is kept back.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from launcher.slot.cache_share import CacheShare, share_of_cache
from launcher.slot.features import feature_ends, features
from launcher.slot.host import host
from launcher.slot.htcondor import htcondor
from launcher.slot.kernel import kernel
from launcher.slot.pbs import pbs
from launcher.slot.slurm import slurm
from launcher.slot.words import Fact, Fault, Quantity, Surroundings, Word, Words

LAUNCHER_MIB: Final = 200
"""Of the launcher, its libvirtd and their helpers, measured; QEMU's own is counted with each vm."""
QEMU_OVERHEAD_MIB: Final = 220
"""QEMU's own memory beside the guest's: 150 to 220 MiB measured under TCG with a 32 MiB translation cache."""
_SETTINGS: Final = "the launcher's settings"
_NEVER_S: Final = 253_402_300_800
"""What lies after the year 9999 is no end."""
_Heard = Sequence[Word | Fault]
_BATCH_SYSTEMS: Final[tuple[Callable[[Surroundings], Words], ...]] = (htcondor, slurm, pbs, features)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a person says: command line, environment, site.toml."""

    vcpus: int | None = None
    memory_mib: int | None = None
    disk_mib: int | None = None
    cache_mib: int | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotFacts:
    """The slot, with where each of its values comes from; `end` in seconds since 1970, None when nobody tells one.

    `cache_mib` is the most that the image cache may take, None where its own bound holds. `warnings` are sentences
    about what was there and could not be used.
    """

    vcpus: Fact
    memory_mib: Fact
    disk_mib: Fact
    end: Fact | None
    cache_mib: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def sources(self) -> dict[str, str]:
        """Return where each value comes from, by its name."""
        known = {"vcpus": self.vcpus, "memory_mib": self.memory_mib, "disk_mib": self.disk_mib, "end": self.end}
        return {name: fact.source for name, fact in known.items() if fact is not None}

    @property
    def ends_at(self) -> datetime | None:
        """Return the end, None when nobody tells one."""
        return None if self.end is None else datetime.fromtimestamp(self.end.value, UTC)


def read_slot(given: Given, scratch: Path, around: Surroundings | None = None, cache: Path | None = None) -> SlotFacts:
    """Find out what this launcher may use. Reads small files; changes nothing.

    Args:
        given: What a person says.
        scratch: Where vms write, or the next folder above that is there.
        around: Where to look, for tests; by default this process's surroundings.
        cache: Where images are, or are to be; what they may take of the same disk is not the slot's.
    """
    around = around or Surroundings(os.environ)
    batch = [word for system in _BATCH_SYSTEMS for word in system(around)]
    share = CacheShare(given.cache_mib, 0)
    if cache is not None:
        share = share_of_cache(_existing(cache), _existing(scratch), cache_mib=given.cache_mib, disk_mib=given.disk_mib)
    present = list(host(around, _existing(scratch), share.growth_mib))
    return replace(judge(given, batch, list(kernel(around)), present), cache_mib=share.limit_mib)


def read_late_end(around: Surroundings | None = None) -> Fact | None:
    """Return the earliest end that is told now by a source that may change its word while a job runs."""
    return _earliest(_facts(list(feature_ends(around or Surroundings(os.environ))), Quantity.END_S))


def judge(given: Given, batch: _Heard, enforced: _Heard, present: _Heard) -> SlotFacts:
    """Decide between the words of the batch systems, in order of precedence, of the kernel, and of the node."""
    heard = (*batch, *enforced, *present)
    memory = [_less_own(fact) for fact in _facts(enforced, Quantity.MEMORY_MIB)]
    if given.memory_mib is not None:
        memory.append(Fact(given.memory_mib, _SETTINGS))
    else:
        memory += [_less_own(fact) for fact in _facts(batch, Quantity.MEMORY_MIB)[:1]]
        memory += _facts(present, Quantity.MEMORY_MIB)
    ends = _facts(heard, Quantity.END_S)
    if given.end is not None:
        ends.append(Fact(int(given.end.timestamp()), _SETTINGS))
    return SlotFacts(
        vcpus=_said_or_least(given.vcpus, batch, enforced, Quantity.VCPUS),
        memory_mib=_least(memory),
        disk_mib=_said_or_least(given.disk_mib, batch, present, Quantity.DISK_MIB),
        end=_earliest(ends),
        warnings=tuple(word.sentence for word in heard if isinstance(word, Fault)),
    )


def _said_or_least(given: int | None, batch: _Heard, bounds: _Heard, quantity: Quantity) -> Fact:
    if given is not None:
        return Fact(given, _SETTINGS)
    return _least([*_facts(batch, quantity)[:1], *_facts(bounds, quantity)])


def _facts(heard: _Heard, quantity: Quantity) -> list[Fact]:
    return [word.fact for word in heard if isinstance(word, Word) and word.quantity is quantity]


def _least(facts: list[Fact]) -> Fact:
    return min(facts, key=lambda fact: fact.value, default=Fact(0, "nobody tells"))


def _earliest(ends: list[Fact]) -> Fact | None:
    return min((end for end in ends if end.value < _NEVER_S), key=lambda end: end.value, default=None)


def _less_own(fact: Fact) -> Fact:
    return Fact(max(0, fact.value - LAUNCHER_MIB), f"{fact.source}, less {LAUNCHER_MIB} for the launcher")


def _existing(folder: Path) -> Path:
    return next((path for path in (folder, *folder.parents) if path.is_dir()), folder)
