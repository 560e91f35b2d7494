"""The fields of a stream's spec as people write them in TOML: one table, for reading, writing and the reference.

A field of the TOML stands for one field of the `StreamSpec` or several; a form reads what was written and writes it
back. What may be in a field is the domain's to say: a form only tells whether it can be read at all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from broker.domain.durations import HOW_TO_WRITE, BadDuration, parse_ms, text_of
from broker.wire.callbacks import EVENT_KINDS, Callback
from broker.wire.secrets import SecretKind
from broker.wire.states import Accelerator, Exchange
from broker.wire.streams import OriginAccess, S3Access, SecretUse

_ANY = "any"


class Unreadable(Exception):
    """A value of another shape; `remedy` says what to write."""

    def __init__(self, value: object, remedy: str) -> None:
        super().__init__(f"{_shown(value)} is not what belongs here")
        self.remedy = remedy


class Form(NamedTuple):
    """How a value is written: its `look` in the reference, and the way there and back.

    `read` raises `Unreadable`, and gives one value for each field of the spec; `write` gives None for what is left out.
    """

    look: str
    read: Callable[[Any], tuple[Any, ...]]
    write: Callable[..., Any]


class Field(NamedTuple):
    """A field: its `path` in TOML, the `names` it has in a `StreamSpec`, the flag of `broker stream add`."""

    path: str
    names: tuple[str, ...]
    form: Form
    flag: str
    meaning: str


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _read_text(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, str):
        raise Unreadable(value, "write a text in quotes")
    return (value,)


def _read_number(value: Any) -> tuple[Any, ...]:
    if not _is_number(value):
        raise Unreadable(value, "write a whole number")
    return (value,)


def _read_vcpus(value: Any) -> tuple[Any, ...]:
    if value != "slot" and not _is_number(value):
        raise Unreadable(value, 'write a whole number, or "slot" for all that is free')
    return (value,)


def _read_duration(value: Any) -> tuple[Any, ...]:
    return (_duration_ms(value, HOW_TO_WRITE),)


def _read_pauses(value: Any) -> tuple[Any, ...]:
    remedy = 'write the first pause and the longest, like ["30s", "10m"]'
    if not isinstance(value, list) or len(value) != 2:
        raise Unreadable(value, remedy)
    return tuple(_duration_ms(each, remedy) for each in value)


def _duration_ms(value: Any, remedy: str) -> int:
    if not isinstance(value, str):
        raise Unreadable(value, remedy)
    try:
        return parse_ms(value)
    except BadDuration as error:
        raise Unreadable(value, remedy) from error


def _read_texts(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Unreadable(value, 'write a list of texts, like ["one", "two"]')
    return (tuple(value),)


def _read_numbers(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or not all(map(_is_number, value)):
        raise Unreadable(value, "write a list of whole numbers, like [2, 3]")
    return (tuple(value),)


def _read_params(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise Unreadable(value, 'write a table of texts, like { seed = "7" }')
    return (dict(value),)


def _read_secrets(value: Any) -> tuple[Any, ...]:
    remedy = f'write a list like ["proxy", "licence:file"]; after the colon {" or ".join(SecretKind)}'
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Unreadable(value, remedy)
    uses = []
    for each in value:
        name, colon, kind = each.partition(":")
        if colon and kind not in set(SecretKind):
            raise Unreadable(each, remedy)
        uses.append(SecretUse(name=name, as_kind=SecretKind(kind) if colon else None))
    return (tuple(uses),)


def _write_secrets(uses: tuple[SecretUse, ...]) -> list[str] | None:
    return [use.name if use.as_kind is None else f"{use.name}:{use.as_kind}" for use in uses] or None


def _read_as(kind: Any, remedy: str) -> Callable[[Any], tuple[Any, ...]]:
    """Return what reads a table whose fields are those of a type, as the broker does."""

    def read(value: Any) -> tuple[Any, ...]:
        try:
            return (msgspec.convert(value, kind),)
        except msgspec.ValidationError as error:
            raise Unreadable(value, remedy) from error

    return read


def _write_access(access: dict[str, OriginAccess]) -> dict[str, Any] | None:
    return {origin: _without_empty(each) for origin, each in access.items()} or None


def _write_table(value: msgspec.Struct | None) -> dict[str, Any] | None:
    return None if value is None else _without_empty(value)


def _without_empty(value: msgspec.Struct) -> dict[str, Any]:
    return {name: each for name, each in msgspec.to_builtins(value).items() if each}


def _one_of(kind: type[Accelerator] | type[Exchange], *more: str) -> Callable[[Any], tuple[Any, ...]]:
    known = (*more, *(each.value for each in kind))

    def read(value: Any) -> tuple[Any, ...]:
        if value not in known:
            raise Unreadable(value, f"write one of {', '.join(known)}")
        return (None if value in more else kind(value),)

    return read


TEXT = Form("text", _read_text, lambda text: text or None)
NUMBER = Form("whole number", _read_number, lambda number: number)
VCPUS = Form('whole number or `"slot"`', _read_vcpus, lambda vcpus: vcpus)
DURATION = Form("duration", _read_duration, lambda ms: None if ms is None else text_of(ms))
PAUSES = Form("two durations", _read_pauses, lambda first_ms, longest_ms: [text_of(first_ms), text_of(longest_ms)])
TEXTS = Form("list of texts", _read_texts, lambda texts: list(texts) or None)
SECRETS = Form("list of texts", _read_secrets, _write_secrets)
NUMBERS = Form("list of whole numbers", _read_numbers, lambda numbers: list(numbers) or None)
ACCESS = Form(
    "table of tables",
    _read_as(
        dict[str, OriginAccess],
        'write { "HOST" = { headers = { NAME = "VALUE" }, secret_headers = { NAME = "SECRET" } } }',
    ),
    _write_access,
)
S3 = Form(
    "table of texts",
    _read_as(S3Access, 'write { secret = "NAME", endpoint = "https://HOST", region = "REGION" }'),
    _write_table,
)
CALLBACK = Form("table", _read_as(Callback, 'write { url = "https://HOST/PATH", secrets = ["NAME"] }'), _write_table)
PARAMS = Form("table of texts", _read_params, lambda params: dict(params) or None)
ACCELERATOR = Form(
    '`"any"`, `"kvm"` or `"tcg"`', _one_of(Accelerator, _ANY), lambda each: _ANY if each is None else each.value
)
EXCHANGE = Form('`"network"`, `"shared"`, `"disk"` or `"rootdisk"`', _one_of(Exchange), lambda each: each.value)

FIELDS: tuple[Field, ...] = (
    Field("machine", ("machine",), TEXT, "--machine", "the machine that runs the items, `NAME` or `USER/NAME`"),
    Field(
        "run",
        ("run",),
        TEXT,
        "--run",
        "what starts, split like a shell would, without a shell; `{input}`, `{output}`, `{item}`, `{param.NAME}` and "
        "`{script}` are filled in; may be absent with a script",
    ),
    Field(
        "script",
        ("script",),
        TEXT,
        "--script",
        "a program that travels with the items: its file, from the folder of the TOML, or its text, which begins "
        "with `#!`; UTF-8 with line feeds, at most 64 KiB. Without `run` it is started with the input, where there is "
        "one, and the output folder as arguments",
    ),
    Field("as", ("as_user",), TEXT, "--as", "the guest's account that runs it"),
    Field("keep", ("keep_ms",), DURATION, "--keep", "how long settled items are kept, with their results and logs"),
    Field(
        "network",
        ("network",),
        TEXTS,
        "--network",
        "`HOST:PORT` that the program needs beyond its input and output; with exchange `network` only",
    ),
    Field(
        "secrets",
        ("secrets",),
        SECRETS,
        "--secret",
        "secrets of the stream's user that each vm is given: `NAME`, or `NAME:KIND` to announce it as another kind "
        "than it was added as; with exchange `network` only",
    ),
    Field(
        "trust",
        ("trust",),
        TEXTS,
        "--trust",
        "with secrets: labels of launchers' tokens; only launchers with one of them get items of the stream",
    ),
    Field(
        "needs.vcpus",
        ("needs.vcpus",),
        VCPUS,
        "--vcpus",
        'vcpus of a vm; absent: the machine\'s own; `"slot"`: all that are free where it runs',
    ),
    Field(
        "needs.memory_mib", ("needs.memory_mib",), NUMBER, "--memory-mib", "memory of a vm; absent: the machine's own"
    ),
    Field("needs.disk_mib", ("needs.disk_mib",), NUMBER, "--disk-mib", "disk space that a vm may write"),
    Field(
        "needs.accelerator",
        ("needs.accelerator",),
        ACCELERATOR,
        "--accelerator",
        "`kvm`: only nodes with KVM; `tcg`: only nodes that emulate",
    ),
    Field("needs.exchange", ("needs.exchange",), EXCHANGE, "--exchange", "how files get in and out of a vm"),
    Field(
        "needs.exchange_folder",
        ("needs.exchange_folder",),
        TEXT,
        "--exchange-folder",
        "folder on the guest's root disk through which they do, with exchange `rootdisk` only",
    ),
    Field(
        "limits.boot",
        ("limits.boot_ms",),
        DURATION,
        "--boot-limit",
        "from the boot to the claim; absent: 5 minutes with KVM, 15 without",
    ),
    Field("limits.run", ("limits.run_ms",), DURATION, "--run-limit", "from the claim to the result"),
    Field("limits.output_mib", ("limits.output_mib",), NUMBER, "--output-mib", "most that an item may put out"),
    Field(
        "retry.attempts",
        ("retry.attempts",),
        NUMBER,
        "--attempts",
        "how often an item may fail by its own fault before it is held",
    ),
    Field("retry.boots", ("retry.boots",), NUMBER, "--boots", "how many vms an item may take before it is held"),
    Field(
        "retry.backoff",
        ("retry.backoff_first_ms", "retry.backoff_max_ms"),
        PAUSES,
        "--backoff",
        "the pause after the first failure, doubled after each further one, and the longest",
    ),
    Field(
        "retry.hold_exit_codes",
        ("retry.hold_exit_codes",),
        NUMBERS,
        "--hold-exit-code",
        "the program's exit codes that hold an item at once",
    ),
    Field(
        "output.files",
        ("output.files",),
        TEXTS,
        "--output-files",
        "shell patterns of what is kept of the output folder",
    ),
    Field("output.to", ("output.to",), TEXT, "--output-to", "the template of the targets"),
    Field(
        "params",
        ("params",),
        PARAMS,
        "--param",
        "parameters of every item; an item's own of the same name come before them",
    ),
    Field(
        "inputs",
        ("inputs",),
        PARAMS,
        "--input",
        "further inputs of every item, by name; an item's own of the same name come before them; at most 32",
    ),
    Field(
        "s3",
        ("s3",),
        S3,
        "--s3",
        "where `s3://BUCKET/KEY` is: `secret`, one of yours of kind `aws_credentials`, by which the broker signs; "
        "`endpoint`, absent for AWS; `region`",
    ),
    Field(
        "plugins",
        ("plugins",),
        PARAMS,
        "--plugin",
        "of other schemes: the HTCondor file transfer plugin that does it, an absolute path in the vm",
    ),
    Field(
        "access",
        ("access",),
        ACCESS,
        "--access",
        "by `HOST` or `HOST:PORT`: `headers` that go along with requests for inputs and outputs there, and "
        "`secret_headers`, whose values are secrets of yours; by flag `HOST NAME: VALUE` or `HOST NAME: @SECRET`",
    ),
    Field(
        "callback",
        ("callback",),
        CALLBACK,
        "--callback",
        "who is told of settled items: `url`; `secrets`, one or two of yours of kind `webhook_key`, by which it is "
        f"signed; `events`, absent for all of {', '.join(f'`{kind}`' for kind in EVENT_KINDS)}; by flag `url=URL`, "
        "`secret=NAME`, `event=KIND`",
    ),
)
"""In the order in which a spec is written: plain fields, sections, and last the tables with names of the user's own."""
