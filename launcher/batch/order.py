"""What each launcher job gets of its node, and what its launcher does there."""

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.wire.names import BadName, check_name
from launcher.batch.errors import Refused

MAX_SLOTS: Final = 10_000
MAX_RUNTIME_S: Final = 30 * 86_400
LAST_WORDS_S: Final = 20
"""What a launcher may take beyond its `drain_s`: 15 s to destroy vms and tell the broker, and some for its wrappers."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_NO_PLACE: Final = re.compile(r"[:;$,%\"'\\\s]")
_STRING: Final = re.compile(r'"(?:\\.|[^"\\])*"')
_GROUP: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One kind of launcher job.

    Attributes:
        broker: its address.
        vcpus, memory_mib, disk_mib: of the job; QEMU's and the launcher's own memory is taken from it.
        runtime_s: the longest that it runs; it drains before.
        idle_s: a launcher without work for so long ends by itself.
        users: whose items it runs; empty: everybody's whom the token covers.
        bundle: an archive by `launcher bundle`, which travels or is unpacked beside the job.
        launcher: the program's path on the nodes, where no bundle is given.
        scratch, cache: folders on the nodes; by default the job's own.
        requirements: HTCondor: an expression that a slot must meet besides.
        constraint: Slurm: features of a node.
        queue: PBS: the queue; Slurm: the partition.
        accounting: HTCondor: group and user to whom the job is charged.
        options: what else the batch system is told, in its own words.
    """

    broker: str
    vcpus: int = 1
    memory_mib: int = 2_048
    disk_mib: int = 20_480
    runtime_s: int = 86_400
    idle_s: int = 600
    drain_s: int = 30
    vms: int | None = None
    users: tuple[str, ...] = ()
    bundle: Path | None = None
    launcher: str | None = None
    scratch: str | None = None
    cache: str | None = None
    requirements: str | None = None
    constraint: str | None = None
    queue: str | None = None
    accounting: tuple[str, str] | None = None
    options: tuple[tuple[str, str], ...] = ()

    @property
    def grace_s(self) -> int:
        """How long the job may take from SIGTERM to its end."""
        return self.drain_s + LAST_WORDS_S


def check_order(order: Order) -> None:
    """Refuse what no batch system could take.

    Raises:
        Refused: naming every fault.
    """
    faults = [*_faults_of_sizes(order), *_faults_of_program(order), *_faults_of_words(order)]
    if faults:
        raise Refused("\n".join(faults))


def check_slots(slots: int) -> None:
    """Refuse a number of jobs out of bounds.

    Raises:
        Refused: it is.
    """
    if not 1 <= slots <= MAX_SLOTS:
        raise Refused(f"{slots} slots: ask for 1 to {MAX_SLOTS:,} at a time")


def _faults_of_sizes(order: Order) -> list[str]:
    least = {"vcpus": (order.vcpus, 1), "memory-mib": (order.memory_mib, 512), "disk-mib": (order.disk_mib, 512)}
    faults = [f"--{name} is {size}: it takes {low} at least" for name, (size, low) in least.items() if size < low]
    if not order.grace_s + 60 <= order.runtime_s <= MAX_RUNTIME_S:
        faults.append(
            f"--runtime is {order.runtime_s} s: it takes from {order.grace_s + 60} s, for the drain and a minute of "
            f"work, to {MAX_RUNTIME_S // 86_400} days"
        )
    return faults


def _faults_of_program(order: Order) -> list[str]:
    if (order.bundle is None) == (order.launcher is None):
        return [
            "name either a bundle that travels with the jobs, --bundle FILE (`launcher bundle -o FILE` makes one), or "
            "where the launcher is on the nodes, --launcher /PATH"
        ]
    if order.launcher is not None and not order.launcher.startswith("/"):
        return [f"--launcher {order.launcher!r} begins with no /: write the whole path that it has on the nodes"]
    if order.bundle is not None and not order.bundle.is_file():
        return [f"--bundle {order.bundle} is no file: `launcher bundle -o {order.bundle}` makes one"]
    if order.bundle is not None and not order.bundle.name.endswith((".tar.gz", ".tgz")):
        return [f"--bundle {order.bundle} is no bundle: that is a .tar.gz, made by `launcher bundle -o FILE`"]
    return []


def _faults_of_words(order: Order) -> list[str]:
    words = {
        "launcher": order.launcher,
        "scratch": order.scratch,
        "cache": order.cache,
        "requirements": order.requirements,
        "constraint": order.constraint,
        "queue": order.queue,
        **{f"option {name}": value for name, value in order.options},
        **{f"option {name}=": name for name, _ in order.options},
    }
    faults = [
        f"--{name} has a control character in it" for name, word in words.items() if word and _CONTROL.search(word)
    ]
    if order.requirements is not None and not _is_balanced(order.requirements):
        faults.append("--requirements is no expression of its own: its brackets do not match")
    for name, path in {"scratch": order.scratch, "cache": order.cache}.items():
        if path is not None and not path.startswith("/"):
            faults.append(f"--{name} {path!r} begins with no /: write the whole path that it has on the nodes")
    return [*faults, *_faults_of_names(order)]


def _is_balanced(expression: str) -> bool:
    """Tell whether every bracket has its other: an expression is put between brackets."""
    depth = 0
    for sign in _STRING.sub("", expression):
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if depth < 0:
            return False
    return depth == 0


def _faults_of_names(order: Order) -> list[str]:
    faults = []
    for user in order.users:
        try:
            check_name(user, "user")
        except BadName as error:
            faults.append(f"--user: {error}")
    if order.accounting is not None and not _GROUP.fullmatch(order.accounting[0]):
        faults.append(f"--accounting-group {order.accounting[0]!r}: use letters, digits, '_', '.' and '-'")
    if order.bundle is not None and _NO_PLACE.search(order.bundle.name):
        faults.append(f"--bundle {order.bundle.name!r}: give the file a name of letters, digits, '.', '_' and '-'")
    return faults


def check_options(order: Order, owned: AbstractSet[str]) -> None:
    """Refuse options that replace what a launcher job is made of.

    Args:
        order: with the options as a person gave them.
        owned: names, without the dashes before them.

    Raises:
        Refused: naming the first.
    """
    for name, _ in order.options:
        if name.lstrip("-") in owned:
            raise Refused(f"--option {name}=… would replace what a launcher job is made of: leave it out")


def check_place(path: Path) -> None:
    """Refuse a folder that some reader of its path would take apart: HTCondor's lists, PBS's hosts, Slurm's patterns.

    Raises:
        Refused: its path has a sign in it that one of them, or a bundle's loader, takes for its own.
    """
    found = _NO_PLACE.search(str(path))
    if found is not None:
        raise Refused(
            f"{path} has a {found[0]!r} in its path, which batch systems take for a sign: name another --folder"
        )
