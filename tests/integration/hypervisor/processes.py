"""Processes seen from outside, through /proc."""

import asyncio
from pathlib import Path

PROC = Path("/proc")


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on."""
    found: list[int] = []
    for task in _tasks(pid):
        try:
            children = (task / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            # A thread that ended since it was listed.
            continue
        for child in map(int, children):
            found += [child, *descendants(child)]
    return found


def _tasks(pid: int) -> list[Path]:
    try:
        return list((PROC / str(pid) / "task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def named(pids: list[int], name: str) -> list[int]:
    return [pid for pid in pids if _name(pid).startswith(name)]


def _name(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def status(pid: int) -> dict[str, str]:
    lines = (PROC / str(pid) / "status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def is_running(pid: int) -> bool:
    try:
        return status(pid)["State"][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def wait_gone(pids: list[int], limit_s: float) -> None:
    async with asyncio.timeout(limit_s):
        while any(is_running(pid) for pid in pids):  # noqa: ASYNC110 - nothing tells about another's child
            await asyncio.sleep(0.02)
