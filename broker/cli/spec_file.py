"""A stream's spec as a TOML file: read with every fault at once, and written so that it reads as the same revision."""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import tomlkit
from tomlkit.items import Table

from broker.cli.exits import BadUsage
from broker.cli.showing import is_visible, visible
from broker.cli.spec_fields import FIELDS, Field, Unreadable
from broker.domain.faults import Fault
from broker.domain.limits import default
from broker.domain.specs import spec_faults
from broker.wire.names import StreamRef
from broker.wire.states import Exchange
from broker.wire.streams import Needs, StreamSpec

MAX_FILE_BYTES = 1_048_576
Document = dict[str, Any]

_BY_PATH = {field.path: field for field in FIELDS}
_SECTIONS = {path.partition(".")[0] for path in _BY_PATH if "." in path}
_NOBODYS_MACHINE = "none"
"""Stands in for a machine that was not named, so that the rest can be checked, too."""


class BadSpec(Exception):
    """A spec that cannot be used, with every fault in it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(f"the spec has {len(faults)} faults" if len(faults) > 1 else str(faults[0]))
        self.faults = faults


def parse_document(content: bytes, name: str) -> Document:
    """Read TOML.

    Raises:
        BadUsage: it is none, or longer than any spec.
    """
    if len(content) > MAX_FILE_BYTES:
        raise BadUsage(f"{name} has more than {MAX_FILE_BYTES} bytes: no stream's spec is that long")
    try:
        return tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadUsage(f"{name} is no UTF-8 text: save it as such") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is no TOMLDecodeError
        raise BadUsage(f"{name} is no TOML: {error}") from error


def read_script(path: Path) -> str:
    """Read the file of a script.

    Raises:
        BadUsage: it is not there, no text, or longer than a script may be.
    """
    most = default("script_bytes")
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise BadUsage(f"script: {path} cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise BadUsage(f"script: {path} has more than {most} bytes; fetch the rest as an input")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadUsage(f"script: {path} is no UTF-8 text; a program of machine code belongs into the image") from error


def merge(document: Document, given: Mapping[str, Any]) -> Document:
    """Return the document with what was given, by path, in place of its own; parameters are added to its own."""
    merged = {name: dict(value) if isinstance(value, dict) else value for name, value in document.items()}
    for path, value in given.items():
        section, _, name = path.rpartition(".")
        inside = merged.setdefault(section, {}) if section else merged
        if not isinstance(inside, dict):
            continue  # What stands in the section's place is refused when the document is read.
        if isinstance(value, dict) and isinstance(inside.get(name), dict):
            value = {**inside[name], **value}
        inside[name] = value
    return merged


def read_spec(document: Document, stream: StreamRef) -> StreamSpec:
    """Return the spec that a document says; what it does not say keeps its default.

    Raises:
        BadSpec: with every fault, by its path in the TOML.
    """
    faults = [*_unknown(document)]
    values: dict[str, Any] = {"machine": _NOBODYS_MACHINE}
    if "machine" not in document:
        faults.append(Fault("machine", "it is missing", "name the machine that runs the items"))
    for field in FIELDS:
        try:
            values.update(_read(document, field))
        except Unreadable as error:
            faults.append(Fault(field.path, str(error), error.remedy))
    spec = _build(values)
    seen = {fault.at for fault in faults}
    faults += [fault for fault in map(_as_written, spec_faults(spec, stream)) if fault.at not in seen]
    if faults:
        raise BadSpec(faults)
    return spec


def write_spec(spec: StreamSpec, heading: str) -> str:
    """Return the spec as TOML, below a comment of one line: every field, but those that have no value."""
    document = tomlkit.document()
    document.add(tomlkit.comment(heading))
    for path, value in written(spec):
        section, _, name = path.rpartition(".")
        if not section:
            document.add(name, _item(name, value))
            continue
        if section not in document:
            document.add(section, tomlkit.table())
        table = document[section]
        assert isinstance(table, Table)
        table.add(name, value)
    # All that is escaped stands in basic strings: a literal one was taken only where nothing needs it.
    return "".join(char if is_visible(char) else _escaped(char) for char in tomlkit.dumps(document))


def written(spec: StreamSpec) -> Iterator[tuple[str, Any]]:
    """Yield each field that has a value, by its path, as it is written in TOML."""
    has_folder = spec.needs.exchange is Exchange.ROOTDISK or spec.needs.exchange_folder != Needs().exchange_folder
    for field in FIELDS:
        value = write_field(spec, field)
        if value is not None and (has_folder or field.path != "needs.exchange_folder"):
            yield field.path, value


def write_field(spec: StreamSpec, field: Field) -> Any:
    """Return what a field of the spec is in TOML; None when there is nothing to write."""
    return field.form.write(*(_value(spec, name) for name in field.names))


def _read(document: Document, field: Field) -> dict[str, Any]:
    """Return what a field says, by the names of the spec's fields; nothing when it is not there."""
    section, _, name = field.path.rpartition(".")
    inside = document.get(section, {}) if section else document
    if not isinstance(inside, dict) or name not in inside:
        return {}
    return dict(zip(field.names, field.form.read(inside[name]), strict=True))


def _build(values: Mapping[str, Any]) -> StreamSpec:
    nested: Document = {}
    for path, value in values.items():
        section, _, name = path.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    return msgspec.convert(nested, StreamSpec)


def _value(spec: StreamSpec, path: str) -> Any:
    section, _, name = path.rpartition(".")
    return getattr(getattr(spec, section) if section else spec, name)


def _as_written(fault: Fault) -> Fault:
    """Return a fault of the spec with the path that its field has in TOML."""
    field = next((field for field in FIELDS if fault.at in field.names), None)
    return fault._replace(at=field.path) if field else fault


def _unknown(document: Document) -> Iterator[Fault]:
    for name, value in document.items():
        if name in _SECTIONS and not isinstance(value, dict):
            yield Fault(name, "it is no table", f"write {name} = {{ … }} or [{name}]")
        elif name in _SECTIONS:
            yield from (_no_field(f"{name}.{inner}") for inner in value if f"{name}.{inner}" not in _BY_PATH)
        elif name not in _BY_PATH:
            yield _no_field(name)


def _no_field(path: str) -> Fault:
    nearest = _nearest(path)
    remedy = f"did you mean {nearest}?" if nearest else "leave it out; the reference of a stream's spec has them all"
    return Fault(visible(path)[:80], "there is no such field", remedy)


def _nearest(path: str) -> str | None:
    """Return the field that a path may mean: by its whole path, by its last part, by its name in the HTTP API."""
    names: dict[str, str] = {}
    for field in FIELDS:
        for name in field.names:
            names[name.rpartition(".")[2]] = names[name] = field.path
    names |= {field.path.rpartition(".")[2]: field.path for field in reversed(FIELDS)} | {
        name: name for name in _BY_PATH
    }
    for text, likeness in ((path, 0.8), (path.rpartition(".")[2], 0.6)):
        found = difflib.get_close_matches(text, names, n=1, cutoff=likeness)
        if found:
            return names[found[0]]
    return None


def _item(name: str, value: Any) -> Any:
    """Return what stands for a value in the document: a script on lines of its own, as it was where that can be."""
    if name != "script":
        return value
    is_literal = "'''" not in value and not value.endswith("'") and all(map(is_visible, value))
    return tomlkit.string(value, literal=is_literal, multiline=True)


def _escaped(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x1_0000 else f"\\U{ord(char):08x}"
