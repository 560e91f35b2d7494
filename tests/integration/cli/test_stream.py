import json
from pathlib import Path

import pytest

from tests.support.api import Api, claim, offer
from tests.support.grid import Broker, Home

SCRIPT = '#!/bin/sh\ncp "$1" "$2/it\'s"\n'
SPEC = """
machine = "m"
script = "render.sh"
params = { quality = "high" }
keep = "7d"
needs = { vcpus = "slot" }
"""


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    (tmp_path / "render.sh").write_text(SCRIPT)
    file = tmp_path / "render.toml"
    file.write_text(SPEC)
    return file


def revision(said: str) -> int:
    return int(said.partition(", revision ")[2].partition(",")[0])


def test_what_show_prints_is_added_as_the_same_revision(home: Home, broker: Broker, spec_file: Path) -> None:
    more = ("--run-limit", "2h", "--param", "seed=7", "--access", "h.example X-Kind: a b")
    added = home.ok("broker", "stream", "add", "again", "-f", str(spec_file), *more)
    shown = home.ok("broker", "stream", "show", "again", "-o", "toml")

    assert shown.startswith("# alice/again, revision 1\n")
    assert f"script = '''{SCRIPT}'''" in shown
    assert revision(added) == revision(home.ok("broker", "stream", "add", "again", "-f", "-", stdin=shown)) == 1
    assert "h.example X-Kind: a b " in home.ok("broker", "stream", "show", "again")
    spec = json.loads(home.ok("broker", "stream", "show", "again", "-o", "json"))["spec"]
    assert spec["params"] == {"quality": "high", "seed": "7"}
    assert (spec["limits"], spec["needs"], spec["keep_ms"]) == ({"run_ms": 7_200_000}, {"vcpus": "slot"}, 604_800_000)


def test_every_change_is_a_revision_that_can_be_shown(home: Home, broker: Broker) -> None:
    for run in ("/one", "/two", "/two", "/three"):
        home.ok("broker", "stream", "add", "changed", "--machine", "m", "--run", run)

    listed = [line.split() for line in home.ok("broker", "stream", "revisions", "changed").splitlines()[1:]]
    assert [(line[0], line[-1]) for line in listed] == [("3", "/three"), ("2", "/two"), ("1", "/one")]
    assert 'run = "/two"' in home.ok("broker", "stream", "show", "changed", "--revision", "2", "-o", "toml")
    table = home.ok("broker", "stream", "show", "changed")
    assert "/three" in table
    assert "30d" in table
    missing = home.run("broker", "stream", "show", "changed", "--revision", "4")
    assert (missing.status, "alice/changed has no revision 4" in missing.err) == (4, True)


async def test_script_and_parameters_reach_the_guest_of_the_revision_that_was_pushed_under(
    home: Home, launcher: Api, spec_file: Path
) -> None:
    home.ok("broker", "stream", "add", "sent", "-f", str(spec_file))
    home.ok("broker", "push", "sent", "--count", "1", "--param", "seed=7")
    home.ok("broker", "stream", "add", "sent", "--machine", "m", "--run", "/other")

    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer(vcpus=3))
    claimed = (await claim(launcher, dispatched["ticket"])).json

    assert dispatched["vcpus"] == 3
    assert (claimed["item"], claimed["run"], claimed["script"]) == ("alice/sent/1", "", SCRIPT)
    assert claimed["params"] == {"quality": "high", "seed": "7"}
    fail = {"code": "program_failed", "sentence": "enough", "exit_code": 1}
    await launcher.bearing(claimed["lease"]).ok("POST", "/v1/lease/fail", json=fail)


def test_every_fault_is_told_at_once_and_nothing_is_changed(home: Home, broker: Broker, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('machine = "m"\nrun = "x"\nvcpus = 2\nkeep = "1s"\ncallback = { url = "b", secrets = ["key"] }\n')

    said = home.run("broker", "stream", "add", "bad", "-f", str(file), "--attempts", "0")

    assert said.status == 2
    assert said.err.splitlines() == [
        "broker: the spec has 4 faults",
        "  vcpus: there is no such field; did you mean needs.vcpus?",
        "  retry.attempts: 0 attempts is out of bounds; write 1 to 100",
        "  keep: 1000 ms is out of bounds; write 1m to 3650d (60000 to 315360000000 ms)",
        "  callback: url: it is no https address; write https://HOST/PATH",
    ]
    assert home.run("broker", "stream", "show", "bad").status == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-f", "/nowhere.toml"), "/nowhere.toml: No such file"),
        (("--machine", "m", "--script", "/nowhere.sh"), "script: /nowhere.sh cannot be read: No such file"),
        (("--machine", "m", "--run", "x", "--param", "seed"), "--param seed: write NAME=VALUE"),
        (("--machine", "m", "--run", "x", "--vcpus", "all"), "needs.vcpus: 'all' is not what belongs here"),
        (("--machine", "m", "--run", "x", "--backoff", "1h", "1m"), "retry.backoff: the first pause, 1h, is longer"),
        (("--run", "x"), "machine: it is missing"),
        (("--machine", "m"), "run: it names no program"),
    ],
)
def test_one_fault_is_one_sentence(home: Home, broker: Broker, arguments: tuple[str, ...], said: str) -> None:
    refused = home.run("broker", "stream", "add", "wrong", *arguments)
    assert refused.status in {1, 2}
    [line] = refused.err.splitlines()
    assert line.startswith(f"broker: {said}")


async def test_flags_alone_set_every_field(home: Home, launcher: Api, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    flags = (
        "--machine m --run {script} --param a=1 --attempts 2 --boots 4 --backoff 1s 2s --hold-exit-code 2 "
        "--run-limit 1h --boot-limit 5m --keep 1h --vcpus 2 --memory-mib 512 --disk-mib 100 --accelerator any "
        "--exchange rootdisk --exchange-folder /in --output-files *.png --output-to file:{user}/x/{name} "
        "--output-mib 5 --as worker"
    )
    home.ok("broker", "stream", "add", "flags", *flags.split(), "--script", str(tmp_path / "run.sh"))
    spec = json.loads(home.ok("broker", "stream", "show", "flags", "-o", "json"))["spec"]
    assert spec == {
        "machine": "m",
        "run": "{script}",
        "script": "#!/bin/sh\n",
        "params": {"a": "1"},
        "as_user": "worker",
        "needs": {"vcpus": 2, "memory_mib": 512, "disk_mib": 100, "exchange": "rootdisk", "exchange_folder": "/in"},
        "limits": {"boot_ms": 300_000, "run_ms": 3_600_000, "output_mib": 5},
        "retry": {
            "attempts": 2,
            "boots": 4,
            "backoff_first_ms": 1_000,
            "backoff_max_ms": 2_000,
            "hold_exit_codes": [2],
        },
        "output": {"files": ["*.png"], "to": "file:{user}/x/{name}"},
        "keep_ms": 3_600_000,
    }
