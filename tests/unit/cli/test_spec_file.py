from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.cli.exits import BadUsage
from broker.cli.showing import is_visible
from broker.cli.spec_fields import FIELDS
from broker.cli.spec_file import BadSpec, merge, parse_document, read_script, read_spec, write_spec
from broker.domain.specs import BOUNDS, spec_faults
from broker.wire.names import StreamRef, UserName
from broker.wire.states import Accelerator, Exchange
from broker.wire.streams import Limits, Needs, Output, Retry, StreamSpec

RENDER = StreamRef(UserName("alice"), "render")
SMALLEST = {"machine": "deb12", "run": "/opt/app/run"}


def read(text: str) -> StreamSpec:
    return read_spec(parse_document(text.encode(), "render.toml"), RENDER)


def told(text: str) -> list[str]:
    with pytest.raises(BadSpec) as refused:
        read(text)
    return [str(fault) for fault in refused.value.faults]


def within(path: str) -> st.SearchStrategy[int]:
    return st.integers(BOUNDS[path].low, BOUNDS[path].high)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
scripts = texts.map(lambda text: "#!/bin/sh\n" + text.replace("\r", ""))
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
needs = st.builds(
    Needs,
    vcpus=st.none() | st.just("slot") | within("needs.vcpus"),
    memory_mib=st.none() | within("needs.memory_mib"),
    disk_mib=within("needs.disk_mib"),
    accelerator=st.none() | st.sampled_from(Accelerator),
    exchange=st.just(Exchange.NETWORK) | st.just(Exchange.DISK),
) | st.builds(Needs, exchange=st.just(Exchange.ROOTDISK), exchange_folder=st.sampled_from(["/vmbroker", '/srv/"é" x']))
backoffs = st.tuples(within("retry.backoff_first_ms"), within("retry.backoff_max_ms")).map(sorted)
retries = st.builds(
    lambda backoff, **more: Retry(backoff_first_ms=backoff[0], backoff_max_ms=backoff[1], **more),
    backoffs,
    attempts=within("retry.attempts"),
    boots=within("retry.boots"),
    hold_exit_codes=st.lists(within("retry.hold_exit_codes"), max_size=3).map(tuple),
)
specs = st.builds(
    StreamSpec,
    machine=st.sampled_from(["deb12", "bob/deb12"]),
    run=texts,
    script=st.just("") | scripts,
    params=st.dictionaries(names, texts, max_size=3),
    needs=needs,
    limits=st.builds(
        Limits,
        boot_ms=st.none() | within("limits.boot_ms"),
        run_ms=within("limits.run_ms"),
        output_mib=within("limits.output_mib"),
    ),
    retry=retries,
    output=st.builds(Output, files=st.lists(texts.filter(bool), min_size=1, max_size=3).map(tuple)),
    keep_ms=within("keep_ms"),
).filter(lambda spec: not spec_faults(spec, RENDER))


@given(specs)
def test_what_is_printed_is_read_as_the_same_spec(spec: StreamSpec) -> None:
    text = write_spec(spec, "alice/render, revision 3")
    assert read(text) == spec
    assert all(map(is_visible, text))


def test_a_script_is_printed_as_it_is_read() -> None:
    script = '#!/bin/sh\nawk \'{print "\\t" $1}\' "$1"\n'
    assert f"script = '''{script}'''" in write_spec(StreamSpec(machine="m", script=script), "x")


def test_what_a_file_does_not_say_has_its_default() -> None:
    assert read("machine = 'deb12'\nrun = '/opt/app/run'") == msgspec.convert(SMALLEST, StreamSpec)


def test_every_field_of_the_spec_is_in_the_table_once() -> None:
    sections: dict[str, type[msgspec.Struct]] = {"needs": Needs, "limits": Limits, "retry": Retry, "output": Output}
    fields: list[str] = []
    for field in msgspec.structs.fields(StreamSpec):
        section = sections.get(field.name)
        inner = msgspec.structs.fields(section) if section else ()
        fields += [f"{field.name}.{each.name}" for each in inner] if section else [field.name]
    assert sorted(name for field in FIELDS for name in field.names) == sorted(fields)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("machin = 'x'", "machin: there is no such field; did you mean machine?"),
        ("memory_mib = 1", "memory_mib: there is no such field; did you mean needs.memory_mib?"),
        ("as_user = 'x'", "as_user: there is no such field; did you mean as?"),
        ("limits.run_ms = 1", "limits.run_ms: there is no such field; did you mean limits.run?"),
        ("limits.xyzzy = 1", "limits.xyzzy: there is no such field; leave it out"),
        ("callback.url = 'x'", "callback: {'url': 'x'} is not what belongs here"),
        (
            "secrets = ['a:key']",
            "secrets: 'a:key' is not what belongs here; "
            'write a list like ["proxy", "licence:file"]; after the colon file or x509_proxy or bearer_token',
        ),
        ("secrets = ['a', 'a']\ntrust = ['x']", "secrets: it names a secret twice; name each once"),
        ("trust = ['x']", "trust: it says who is trusted with secrets, and the stream names none; leave it out"),
        ("needs = 4", "needs: it is no table; write needs = { … } or [needs]"),
        ("as = 4", "as: 4 is not what belongs here; write a text in quotes"),
        ("keep = 30", "keep: 30 is not what belongs here; write a duration like 90s, 15m, 1h30m or 2d"),
        ("keep = '1s'", "keep: 1000 ms is out of bounds; write 1m to 3650d (60000 to 315360000000 ms)"),
        ("needs.vcpus = 'all'", "needs.vcpus: 'all' is not what belongs here; write a whole number, or \"slot\""),
        ("needs.vcpus = true", "needs.vcpus: True is not what belongs here"),
        ("needs.memory_mib = 4.5", "needs.memory_mib: 4.5 is not what belongs here; write a whole number"),
        (
            "needs.memory_mib = 99999999999999999999999",
            "needs.memory_mib: 99999999999999999999999 MiB is out of bounds",
        ),
        ("needs.accelerator = 'xen'", "needs.accelerator: 'xen' is not what belongs here; write one of any, kvm, tcg"),
        (
            "needs.exchange = 'usb'",
            "needs.exchange: 'usb' is not what belongs here; write one of network, shared, disk",
        ),
        (
            "retry.backoff = '30s'",
            "retry.backoff: '30s' is not what belongs here; write the first pause and the longest",
        ),
        ("retry.backoff = ['1s', '2d']", "retry.backoff: 172800000 ms is out of bounds; write 0s to 1d"),
        ("retry.hold_exit_codes = [0]", "retry.hold_exit_codes: 0 as an exit code is out of bounds; write 1 to 255"),
        (
            "retry.hold_exit_codes = ['2']",
            "retry.hold_exit_codes: ['2'] is not what belongs here; write a list of whole",
        ),
        ("output.files = '*'", "output.files: '*' is not what belongs here; write a list of texts"),
        ("params.seed = 7", "params: {'seed': 7} is not what belongs here; write a table of texts"),
    ],
)
def test_a_fault_is_told_with_its_path_and_remedy(text: str, said: str) -> None:
    faults = told(f"machine = 'deb12'\nrun = '/opt/app/run'\n{text}")
    assert len(faults) == 1
    assert faults[0].startswith(said)


def test_all_faults_are_told_at_once_whatever_their_kind() -> None:
    faults = told("vcpus = 1\nkeep = '1s'\nlimits = { run = 5 }\noutput = { to = 'ftp://x/{name}' }")
    assert [fault.partition(": ")[0] for fault in faults] == [
        "vcpus",
        "machine",
        "limits.run",
        "run",
        "keep",
        "output.to",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"machine = ", "render.toml is no TOML: "),
        (b"machine = '\xff'", "render.toml is no UTF-8 text"),
        (b"a = " + b"[" * 10_000, "render.toml is no TOML"),
        (b"#" * 1_048_577, "render.toml has more than 1048576 bytes"),
    ],
)
def test_what_is_no_toml_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(BadUsage, match=said):
        parse_document(content, "render.toml")


def test_what_is_given_by_flag_comes_before_the_file_and_adds_to_its_parameters() -> None:
    document: dict[str, Any] = {
        "machine": "deb12",
        "needs": {"vcpus": 2, "disk_mib": 5},
        "params": {"a": "1", "b": "1"},
    }
    given = {"run": "x", "needs.vcpus": "slot", "params": {"b": "2"}, "limits.run": "1h"}
    assert merge(document, given) == {
        "machine": "deb12",
        "run": "x",
        "needs": {"vcpus": "slot", "disk_mib": 5},
        "limits": {"run": "1h"},
        "params": {"a": "1", "b": "2"},
    }
    assert document["needs"]["vcpus"] == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"\x7fELF\xff", "is no UTF-8 text; a program of machine code belongs into the image"),
        (b"#!/bin/sh\n" + b"x" * 65_536, "has more than 65536 bytes"),
    ],
)
def test_a_file_that_is_no_script_is_refused(content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "run.sh").write_bytes(content)
    with pytest.raises(BadUsage, match=said):
        read_script(tmp_path / "run.sh")
