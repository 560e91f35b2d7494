"""`launcher check-config`: the settings as `run` would read them, as TOML, and every fault in them."""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import typer

from launcher.authority import NoAuthority, read_authority
from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import HypervisorError
from launcher.settings import Settings, SettingsError, read_settings, slot_of
from launcher.slot import SlotFacts

_USAGE: Final = 2
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


def check_config() -> None:
    """Read the settings as `run` would and show them, and the slot that comes of them, or every fault in them."""
    try:
        settings = read_settings()
    except SettingsError as error:
        _tell(error.faults)
        sys.exit(_USAGE)
    facts = slot_of(settings)
    for line in (*_slot(facts), *_toml(settings)):
        typer.echo(line)
    for sentence in facts.warnings:
        typer.echo(f"passed over: {sentence}", err=True)
    faults = [*_faults(settings), *_past(facts)]
    _tell(faults)
    if faults:
        sys.exit(_USAGE)


def _tell(faults: Iterator[str] | tuple[str, ...] | list[str]) -> None:
    for fault in faults:
        typer.echo(f"launcher: {fault}", err=True)


def _faults(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with what the settings name."""
    if settings.token_file is not None:
        try:
            if not settings.token_file.read_bytes().strip():
                yield f"token_file: {settings.token_file} is empty"
        except OSError as error:
            yield f"token_file: {settings.token_file} cannot be read: {error.strerror}"
    try:
        read_authority(settings.ca_file)
    except NoAuthority as error:
        yield str(error)
    if settings.account is not None and os.geteuid() == 0:
        try:
            Account.choose(settings.account)
        except HypervisorError as error:
            yield f"account: {error}"


def _past(facts: SlotFacts) -> Iterator[str]:
    if facts.ends_at is not None and facts.end is not None and facts.ends_at <= datetime.now(UTC):
        yield f"end: {_instant(facts.ends_at)}, from {facts.end.source}, is past: a launcher takes nothing"


def _slot(facts: SlotFacts) -> Iterator[str]:
    sizes = {"vcpus": facts.vcpus.value, "memory_mib": facts.memory_mib.value, "disk_mib": facts.disk_mib.value}
    for name, held in {**sizes, "end": facts.ends_at and _instant(facts.ends_at)}.items():
        yield (
            f"# slot: {name} = {held} ({facts.sources[name]})" if held is not None else f"# slot: {name}: nobody tells"
        )


def _toml(settings: Settings) -> Iterator[str]:
    """Yield the settings that are set, as a site's file has them; a table comes last in TOML."""
    tables = []
    for name, value in settings.model_dump().items():
        if isinstance(value, Mapping):
            tables += [f"[{name}]", *(f"{_key(key)} = {_value(held)}" for key, held in value.items())] if value else []
        elif value not in (None, (), ""):
            yield f"{name} = {_value(value)}"
    yield from tables


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name)


def _value(value: object) -> str:
    match value:
        case tuple():
            return f"[{', '.join(map(_value, value))}]"
        case datetime():
            return _instant(value)
        case str() | Path():
            return json.dumps(str(value), ensure_ascii=False)
    return str(value)


def _instant(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
