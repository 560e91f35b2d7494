"""Inputs and targets by an HTCondor file transfer plugin: the tests' own, in each form and with each vice."""

import asyncio
import hashlib
import os
import pwd
import signal
from pathlib import Path

import pytest

from broker.client.errors import Unreachable
from broker.wire.items import NewItem
from broker.wire.leases import ClaimAnswer, LeaseLimits, SignedUrl
from broker.wire.secrets import GivenSecret, SecretKind
from broker.wire.states import FailureCode, ItemState
from broker.wire.streams import Output, StreamSpec
from guest.exits import Exit
from guest.steps.account import Account
from guest.steps.plugins import Plugins
from guest.steps.secrets import Secrets
from tests.integration.guest.edge import CURRENT_ACCOUNT, EdgeBroker, eventually, started_guest
from tests.integration.guest.real_broker import Broker
from tests.integration.guest.test_one_item import is_alive, run_guest

CONTENT = b"bytes of elsewhere\n" * 1000
_ADVERTISED = """echo 'PluginType = "FileTransfer"'; echo 'SupportedMethods = "other,gsiftp"'"""
# Both take %s://h/NAME as the file NAME of the folder `store`.
SINGLE = f"""
if [ "$1" = -classad ]; then {_ADVERTISED}; exit; fi
case "$1" in
  gsiftp://*) from=${{1%%\\?*}}; cp "$STORE/${{from##*/}}" "$2" ;;
  *) cp "$1" "$STORE/${{2##*/}}" ;;
esac
"""
MULTIPLE = f"""
if [ "$1" = -classad ]; then echo 'MultipleFileSupport = true'; {_ADVERTISED}; exit; fi
[ "$1" = -infile ] && [ "$3" = -outfile ]
file=$(sed 's/^\\[ LocalFileName = "\\(.*\\)"; Url = "\\(.*\\)" ]$/\\1/' "$2")
url=$(sed 's/^\\[ LocalFileName = "\\(.*\\)"; Url = "\\(.*\\)" ]$/\\2/' "$2")
name=${{url%%\\?*}}; name=${{name##*/}}
if [ "${{5-}}" = -upload ]; then cp "$file" "$STORE/$name"; else cp "$STORE/$name" "$file"; fi
echo "[ TransferUrl = \\"$url\\"; TransferSuccess = true ]" >"$4"
"""


def _plugin(folder: Path, text: str) -> str:
    store = folder / "store"
    store.mkdir(exist_ok=True)
    (store / "in").write_bytes(CONTENT)
    path = folder / "plugin"
    path.write_text(f"#!/bin/sh\nset -eu\nSTORE={store}\n{text}\n")
    path.chmod(0o755)
    return str(path)


def _claim(plugins: dict[str, str], as_user: str = CURRENT_ACCOUNT) -> ClaimAnswer:
    limits = LeaseLimits(heartbeat_ms=1000, lease_ms=60_000, run_ms=60_000, output_mib=1)
    return ClaimAnswer(
        item="a/j/1", fence=1, lease="", run="", as_user=as_user, output_files=["*"], limits=limits, plugins=plugins
    )


def _plugins(path: str, scheme: str = "gsiftp") -> Plugins:
    return Plugins(_claim({scheme: path}), Secrets((), lambda _: None), "http://10.0.2.2:3128")


IN = SignedUrl(url="gsiftp://h/in?token=hidden", target="gsiftp://h/in")


@pytest.mark.parametrize("text", [SINGLE, MULTIPLE])
async def test_a_plugin_of_either_form_brings_the_input_and_takes_the_output(
    broker: EdgeBroker, tmp_path: Path, text: str
) -> None:
    broker.plugins = {"gsiftp": _plugin(tmp_path, text)}
    broker.input_bytes = b"not used"
    broker.run = """sh -c 'ls -A; tr a-z A-Z <"{input}" >"{output}/out put.txt"'"""

    code, guest = await run_guest(broker, tmp_path)

    assert code == Exit.COMPLETED, guest.end.logs
    sent = (tmp_path / "store" / "out%20put.txt").read_bytes()
    assert sent == CONTENT.upper()
    assert broker.completed is not None
    (output,) = broker.completed.outputs
    assert (output.url, output.size_bytes) == ("gsiftp://h/out%20put.txt", len(CONTENT))
    assert output.digest == f"sha256:{hashlib.sha256(sent).hexdigest()}"
    assert broker.completed.facts["input_digest"] == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert broker.completed.log == b"frame 1.exr\n"  # nothing of the plugin's is left beside it
    assert not broker.transfers


_SAYS = "[ $1 != -classad ] || { echo 'MultipleFileSupport = true'; exit; }\n"


@pytest.mark.parametrize(
    ("text", "sentence", "tries"),
    [
        (SINGLE.replace("cp", "echo; false"), "exited with status 1", 3),
        ("exit 3", "is no file transfer plugin: it does not answer -classad as one", 3),
        ("echo usage: plugin SRC DST", "is no file transfer plugin: it does not answer -classad as one", 3),
        ("echo 'SupportedMethods = \"osdf, stash\"'", "does not do gsiftp:, but osdf, stash", 1),
        ("[ $1 != -classad ] || echo A = 1", "says that it succeeded, and brought no file", 3),
        ('[ $1 = -classad ] && echo A = 1 || ln -s /etc/passwd "$2"', "it succeeded, and brought no file", 3),
        ('[ $1 = -classad ] && echo A = 1 || mkfifo "$2"', "it succeeded, and brought no file", 3),
        ("[ $1 = -classad ] && echo A = 1 || kill -SEGV $$", "was killed by SIGSEGV", 3),
        (f"{_SAYS}touch in", "does not say that it succeeded", 3),
        (f"{_SAYS}echo '[ TransferSuccess = false; TransferError = \"no such file\" ]' >$4", "no such file", 3),
        (f"{_SAYS}echo '[ TransferSuccess = true ]' >$4; exit 1", "exited with status 1", 3),
        (f"{_SAYS}echo '[ TransferSuccess = true ]' >$4", "says that it succeeded, and brought no file", 3),
        (f"{_SAYS}echo 'what is this' >$4", "tells cannot be read: 'what is this' is no attribute", 3),
        (
            f"{_SAYS}yes | head -c 5000000 >&2; yes no | head -c 2000000; echo 'at \033[2J '$1 >&2; exit 4",
            "status 4: at  [2J -infile",
            3,
        ),
        (
            f"{_SAYS}echo '[TransferSuccess=false; TransferRetryable=false; TransferError=\"denied\"]' >$4; exit 1",
            "exited with status 1: denied",
            1,
        ),
        (f"{_SAYS}mkfifo $4", "does not say that it succeeded", 3),
    ],
)
async def test_tells_what_a_plugin_did_wrong_and_tries_as_often_as_may_help(
    tmp_path: Path, text: str, sentence: str, tries: int
) -> None:
    plugins = _plugins(_plugin(tmp_path, text))
    errors = []
    for _ in range(3):
        with pytest.raises(Unreachable) as raised:
            await plugins.fetch(IN, tmp_path / "arrives")
        errors.append(raised.value)
        if raised.value.is_lasting:
            break

    assert sentence in str(errors[-1])
    assert len(errors) == tries
    assert str(errors[-1]).isprintable()
    assert len(str(errors[-1])) < 500 + len(str(tmp_path))
    assert {each.name for each in tmp_path.iterdir()} == {"plugin", "store"}


async def test_a_plugin_that_says_that_it_helps_is_tried_on(tmp_path: Path) -> None:
    text = f"{_SAYS}echo '[ TransferSuccess = false; TransferRetryable = true ]' >$4; exit 1"
    for plugins in (_plugins(_plugin(tmp_path, text)), _plugins(_plugin(tmp_path, f"{_SAYS}exit 11"))):
        for _ in range(5):
            with pytest.raises(Unreachable) as raised:
                await plugins.fetch(IN, tmp_path / "arrives")
            assert not raised.value.is_lasting


async def test_what_is_not_the_bytes_that_were_said_is_not_taken(tmp_path: Path) -> None:
    plugins = _plugins(_plugin(tmp_path, SINGLE))
    other = SignedUrl(url=IN.url, target=IN.target, digest=f"sha256:{'0' * 64}")

    with pytest.raises(Unreachable, match="has another digest than was said of it"):
        await plugins.fetch(other, tmp_path / "arrives")

    assert not (tmp_path / "arrives").exists()


async def test_a_failure_quotes_no_query(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.plugins = {"gsiftp": _plugin(tmp_path, '[ $1 = -classad ] && echo A = 1 || { echo "no: $1" >&2; exit 9; }')}
    broker.other_query = "?token=hidden"
    broker.input_bytes = b"not used"

    code, _ = await run_guest(broker, tmp_path)

    assert code == Exit.ITEM_FAILED
    assert broker.failed is not None
    assert broker.failed.code is FailureCode.INPUT_UNAVAILABLE
    assert broker.failed.sentence.endswith("plugin exited with status 9: no: gsiftp://h/in")
    assert "hidden" not in broker.failed.sentence


async def test_an_upload_that_fails_is_told(broker: EdgeBroker, tmp_path: Path) -> None:
    refuses = SINGLE.replace('cp "$1"', "echo quota >&2; exit 1; cp")
    broker.plugins = {"gsiftp": _plugin(tmp_path, refuses)}
    broker.run = "sh -c 'echo x >{output}/o'"

    code, _ = await run_guest(broker, tmp_path)

    assert code == Exit.ITEM_FAILED
    assert broker.failed is not None
    assert broker.failed.code is FailureCode.UPLOAD_FAILED
    assert broker.failed.sentence.startswith("the output o could not be uploaded: its plugin /")
    assert broker.failed.sentence.endswith("exited with status 1: quota")


async def test_a_plugin_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"^its plugin /none/there is not in the image") as raised:
        await _plugins("/none/there").fetch(IN, tmp_path / "arrives")
    assert raised.value.is_lasting


@pytest.mark.parametrize("is_asked", [True, False])
async def test_a_plugin_that_hangs_ends_whole_when_the_transfer_does(tmp_path: Path, *, is_asked: bool) -> None:
    hangs = f"sleep 600 & echo $! >{tmp_path}/pid; trap '' TERM; wait"
    text = hangs if is_asked else f"{_SAYS}{hangs}"
    fetching = asyncio.create_task(_plugins(_plugin(tmp_path, text)).fetch(IN, tmp_path / "arrives"))
    await eventually(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))

    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching

    assert not is_alive(tmp_path / "pid")


async def test_a_plugin_ends_at_the_run_limit(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.plugins = {"gsiftp": _plugin(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 600")}
    broker.input_bytes = b"not used"
    broker.run_ms = 1500

    code, _ = await run_guest(broker, tmp_path)

    assert code == Exit.ITEM_FAILED
    assert broker.failed is not None
    assert broker.failed.code is FailureCode.RUN_TIMEOUT
    assert not is_alive(tmp_path / "pid")


async def test_a_plugin_ends_with_its_guest(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.plugins = {"gsiftp": _plugin(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 600")}
    broker.input_bytes = b"not used"
    async with started_guest(broker.url, tmp_path / "run") as guest:
        await eventually(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
        guest.process.send_signal(signal.SIGTERM)
        assert await guest.wait() == Exit.STOPPED
    assert not is_alive(tmp_path / "pid")


async def test_with_the_broker_inputs_and_targets_are_of_the_streams_scheme(real: Broker, tmp_path: Path) -> None:
    spec = StreamSpec(
        machine="m",
        run="sh -c 'cat {input} {input.more} >{output}/o'",
        as_user=CURRENT_ACCOUNT,
        output=Output(to="gsiftp://h/{job}/{name}"),
        plugins={"gsiftp": _plugin(tmp_path, MULTIPLE)},
    )
    item = await real.push_to(spec, NewItem(url="gsiftp://h/a/in", inputs={"more": "gsiftp://h/b/in"}))

    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket) as guest:
        assert await guest.wait() == Exit.COMPLETED, guest.end.logs

    view = await real.item(item)
    assert view.state is ItemState.DONE
    [output] = view.outputs
    assert output.url.startswith("gsiftp://h/render/o")
    sent = (tmp_path / "store" / output.url.rpartition("/")[2]).read_bytes()
    assert sent == CONTENT * 2
    assert (output.size_bytes, output.digest) == (len(sent), f"sha256:{hashlib.sha256(sent).hexdigest()}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
async def test_runs_as_the_programs_account_with_its_secrets_and_the_way_out(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    text = '[ $1 = -classad ] && echo A = 1 || { id -u; cat "$BEARER_TOKEN_FILE"; echo $https_proxy; env -i; } >"$2"'
    secrets = Secrets([GivenSecret(name="t", kind=SecretKind.BEARER_TOKEN, value=b"tok\n", version=1)], lambda _: None)
    secrets.open(tmp_path / "secrets", Account.find("nobody"))
    claimed = _claim({"gsiftp": _plugin(tmp_path, text)}, "nobody")
    try:
        fetched = await Plugins(claimed, secrets, "http://10.0.2.2:3128").fetch(IN, tmp_path / "arrives")
    finally:
        secrets.wipe()

    assert fetched.path.read_text() == f"{nobody.pw_uid}\ntok\nhttp://10.0.2.2:3128\n"
    assert fetched.path.stat().st_uid == nobody.pw_uid


@pytest.mark.parametrize("scheme", ["http", "https", "dav", "davs", "s3", "file"])
def test_no_plugin_is_asked_for_a_scheme_of_ours(scheme: str) -> None:
    assert not _plugins("/plugin", scheme).have(f"{scheme}://h/x")
    assert _plugins("/plugin", "osdf").have("OSDF:///x")
