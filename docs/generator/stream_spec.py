"""The block of the page on a stream's spec: its fields, from the tables that read and check them."""

from collections.abc import Iterator

from broker.cli.spec_fields import FIELDS, Field
from broker.cli.spec_file import write_field
from broker.domain.specs import BOUNDS, range_of
from broker.wire.streams import StreamSpec
from docs.generator.layout import code, table


def spec_fields() -> str:
    """Return the table of all fields."""
    return table(("field", "written as", "default", "bounds", "flag", "meaning"), map(_row, FIELDS))


def _row(field: Field) -> tuple[str, ...]:
    default = _default(write_field(StreamSpec(machine=""), field))
    return code(field.path), field.form.look, default, _bounds(field), code(field.flag), field.meaning


def _default(value: object) -> str:
    if isinstance(value, list):
        return code(f"[{', '.join(map(_quoted, value))}]")
    return "" if value is None else code(_quoted(value))


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _bounds(field: Field) -> str:
    return "; ".join(dict.fromkeys(_ranges(field)))


def _ranges(field: Field) -> Iterator[str]:
    """Yield the bounds of what a field stands for, without the milliseconds that nobody writes in TOML."""
    for name in field.names:
        if name in BOUNDS:
            yield range_of(BOUNDS[name]).partition(" (")[0]
