"""A whole broker whose files are in S3: every byte of a file goes past it, and its key stays with it."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from broker.app import running_broker
from broker.client.errors import ApiError
from broker.client.files import Content, Files, read_content
from broker.client.session import Session
from broker.listening import CannotServe
from broker.settings import BadSettings, load_settings
from broker.wire.dispatches import DispatchRequest, Room
from broker.wire.items import NewItem
from broker.wire.names import Digest
from broker.wire.states import Accelerator, Exchange, ItemState
from broker.wire.streams import Needs, StreamSpec
from guest.exits import Exit
from tests.integration.guest.edge import Client, started_guest
from tests.integration.guest.real_broker import STREAM, Broker, real_broker
from tests.support.api import Api, claim, digest_field, digest_of
from tests.support.cuttable import CuttableWay, cuttable_way
from tests.support.grid import REPOSITORY, free_port
from tests.support.s3_server import KEY_ID, SECRET, S3Server

FILE = "/v1/files/alice/in/frame%201.txt"
CONTENT = hashlib.sha256(b"content").digest() * 40_000
MARK = CONTENT[:32]


class Far(NamedTuple):
    """A broker that is reached by a way which keeps all that goes over it."""

    real: Broker
    api: Api
    way: CuttableWay
    s3: S3Server
    folder: Path

    @property
    def carried(self) -> bytes:
        assert self.way.carried is not None
        return bytes(self.way.carried)


@pytest.fixture
async def far(
    kept_in_s3: dict[str, Any], s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Far]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    port = free_port()
    with cuttable_way(port, records=True) as way:
        more = {**kept_in_s3, "listen": f"127.0.0.1:{port}", "public_url": f"http://127.0.0.1:{way.port}"}
        async with real_broker(tmp_path, more=more) as real, aiohttp.ClientSession() as http:
            token = json.loads((tmp_path / "config/vmbroker/login.json").read_text())["token"]
            s3.asked.clear()
            yield Far(real, Api(http, real.url, token), way, s3, tmp_path)


async def test_a_researchers_file_goes_both_ways_past_the_broker(far: Far) -> None:
    source, back = far.folder / "source", far.folder / "back"
    source.write_bytes(CONTENT)
    content = await read_content(source)
    told: list[int] = []

    view = await far.real.files.put_file(source, "alice/in/frame 1.txt", content, told.append)
    assert (await far.real.files.put_file(source, "alice/in/frame 1.txt", content)) == view
    assert await far.real.files.get_file(FILE, back, None) == content

    assert back.read_bytes() == CONTENT
    assert (view.size_bytes, view.digest, sum(told)) == (len(CONTENT), digest_of(CONTENT), len(CONTENT))
    assert [each.size_bytes for each in far.s3.uploads] == [len(CONTENT)], "what is there is not sent again"
    assert MARK not in far.carried
    assert SECRET.encode() not in far.carried


async def test_curl_puts_through_the_broker_and_gets_past_it(far: Far) -> None:
    bearing = ["--oauth2-bearer", str(far.api.token), "-sS", "-L", "-f"]
    source, back = far.folder / "source", far.folder / "back"
    source.write_bytes(CONTENT)
    await curl(*bearing, "-T", str(source), "-H", f"Repr-Digest: {digest_field(CONTENT)}", f"{far.api.url}{FILE}")
    assert MARK in far.carried, "it cannot send headers that it does not know"
    assert far.way.carried is not None
    far.way.carried.clear()

    shown = await curl(*bearing, "-D", "-", "-o", str(back), f"{far.api.url}{FILE}")
    part = await curl(*bearing, "-r", "32-63", f"{far.api.url}{FILE}")

    assert back.read_bytes() == CONTENT
    assert part == MARK
    told = shown.decode().lower()
    assert "content-disposition: attachment; filename*=utf-8''frame%201.txt" in told
    assert "content-type: application/octet-stream" in told
    assert MARK not in far.carried
    head = await far.api.call("HEAD", FILE)
    assert head.headers["Content-Length"] == str(len(CONTENT))
    assert head.headers["Repr-Digest"] == digest_field(CONTENT)
    assert f"etag: {head.headers['ETag']}".lower() in told, "the same from the broker and from S3"
    known = {"If-None-Match": head.headers["ETag"]}
    assert [(await far.api.call(method, FILE, headers=known)).status for method in ("GET", "HEAD")] == [304, 304]
    assert (await far.api.call("DELETE", FILE)).status == 204
    assert (await far.api.call("GET", FILE)).code == "not_found"


async def curl(*arguments: str) -> bytes:
    started = await asyncio.create_subprocess_exec("curl", *arguments, stdout=-1, stderr=-1)
    out, err = await started.communicate()
    assert started.returncode == 0, err
    return out


async def test_a_file_is_announced_refused_and_bounded_as_one_that_is_put(far: Far) -> None:
    said = {"size_bytes": 6, "digest": digest_of(b"result")}
    await far.api.ok("PUT", "/v1/users/alice", json={"most_file_bytes": 4_101})
    assert (await far.api.call("POST", FILE, json=said)).code == "quota_exceeded"
    await far.api.ok("PUT", "/v1/users/alice", json={"most_file_bytes": 10_000})
    assert (await far.api.call("POST", FILE, json={**said, "digest": "md5:1"})).code == "bad_request"
    assert (await far.api.call("POST", FILE, json={**said, "size_bytes": -1})).code == "bad_request"
    assert (await far.api.call("POST", FILE, json={**said, "size_bytes": 1 << 40})).code == "too_large"
    assert await far.api.ok("POST", FILE, json={**said, "size_bytes": 6 << 30}) == {}, "S3 takes no such PUT"

    upload = (await far.api.ok("POST", FILE, json=said))["upload"]
    assert upload["url"].startswith(f"{far.s3.url}/")
    assert upload["headers"]["x-amz-checksum-sha256"] == digest_field(b"result").split(":")[1]
    assert (await far.api.ok("GET", "/v1/users/alice"))["file_bytes"] == 4_102
    assert (await far.api.call("GET", FILE)).code == "not_found"


async def test_what_changes_while_it_is_sent_is_no_file(far: Far) -> None:
    source = far.folder / "source"
    source.write_bytes(b"after!")
    promised = Content(Digest(digest_of(b"before")), 6)

    with pytest.raises(ApiError) as refused:
        await far.real.files.put_file(source, "alice/in/frame 1.txt", promised)

    assert refused.value.status == 400
    assert (await far.api.call("GET", FILE)).code == "not_found"


async def test_an_item_is_done_of_whose_files_the_broker_sees_no_byte(far: Far) -> None:
    source = far.folder / "frame 1.txt"
    source.write_bytes(CONTENT)
    await far.real.files.put_file(source, "alice/in/frame 1.txt", await read_content(source))
    item = await far.real.push(
        'sh -c \'cat "$VMBROKER_INPUT" "$VMBROKER_INPUT" >"{output}/big one.txt"\'', "file:alice/in/frame 1.txt"
    )
    dispatched = await far.real.dispatch()
    assert far.s3.url.removeprefix("http://") in dispatched.origins, "the vm may reach the bucket"

    async with started_guest(far.real.url, far.folder / "run", ticket=dispatched.ticket) as guest:
        assert await guest.wait() == Exit.COMPLETED, guest.end.logs

    assert (await far.real.item(item)).state is ItemState.DONE
    [result] = [line async for line in far.real.researcher.results(STREAM)]
    [output] = result.outputs
    assert (output.size_bytes, output.digest) == (2 * len(CONTENT), digest_of(2 * CONTENT))
    back = far.folder / "back"
    await far.real.files.get_file(output.url, back, Content(Digest(output.digest), output.size_bytes))
    assert back.read_bytes() == 2 * CONTENT
    assert [each.size_bytes for each in far.s3.uploads] == [len(CONTENT), 2 * len(CONTENT)]
    assert MARK not in far.carried
    assert KEY_ID.encode() in far.carried, "what is carried is seen: the key's id is in each address"
    assert SECRET.encode() not in far.carried


async def test_an_older_guest_puts_through_the_broker_and_a_dead_one_is_gone_on_for(far: Far) -> None:
    await far.real.push("true")
    dispatched = await far.real.dispatch()
    launcher = far.api.bearing(None)
    guest = launcher.bearing((await claim(launcher, dispatched.ticket)).json["lease"])
    facts = {"size_bytes": 6, "digest": digest_of(b"result")}

    async def signed(name: str, **uploads: Any) -> dict[str, Any]:
        body = {"outputs": [name], "uploads": uploads}
        return dict((await guest.ok("POST", "/v1/lease/urls", json=body))["outputs"][name])

    old = await signed("old")
    assert old["url"].startswith(far.real.url)
    assert (await launcher.call("PUT", old["url"], data=b"result", headers=old["headers"])).status == 201
    # A guest that died after its PUT: the one started anew is led to the broker, which knows that it is there.
    direct = await signed("new", new=facts)
    async with aiohttp.ClientSession() as http:
        sent = {**direct["headers"], "Repr-Digest": digest_field(b"result"), "Content-Type": "text/plain"}
        async with http.put(direct["url"], data=b"result", headers=sent) as answer:
            assert answer.status == 200
    again = await signed("new", new=facts)
    assert again["url"].startswith(far.real.url)
    headers = {**again["headers"], "Repr-Digest": digest_field(b"result")}
    assert (await launcher.call("PUT", again["url"], data=b"result", headers=headers)).status == 200
    # And what never came is no output.
    lost = await signed("lost", lost=facts)
    outputs = [{"name": "lost", "url": lost["target"], **facts}]
    refused = await guest.call("POST", "/v1/lease/complete", json={"outputs": outputs})
    assert refused.code == "output_not_verified"
    outputs = [{"name": name, "url": each["target"], **facts} for name, each in (("old", old), ("new", direct))]
    assert (await guest.ok("POST", "/v1/lease/complete", json={"outputs": outputs}))["state"] == "done"


async def test_the_client_in_sh_and_curl_reads_past_the_broker(far: Far) -> None:
    source = far.folder / "frame 1.txt"
    source.write_bytes(CONTENT)
    await far.real.files.put_file(source, "alice/in/frame 1.txt", await read_content(source))
    item = await far.real.push("sh -c 'wc -c <\"$VMBROKER_INPUT\" >{output}/size'", "file:alice/in/frame 1.txt")
    shell = Client(("/bin/sh", str(REPOSITORY / "docs/reference/guest-client.sh")), takes_options=False)

    dispatched = await far.real.dispatch()
    async with started_guest(far.real.url, far.folder / "run", ticket=dispatched.ticket, client=shell) as guest:
        assert await guest.wait() == Exit.COMPLETED, (far.folder / "guest.out").read_text()

    [output] = (await far.real.item(item)).outputs
    assert output.digest == digest_of(b"%d\n" % len(CONTENT))
    assert MARK not in far.carried


async def test_every_process_has_the_bucket_and_a_launcher_stages_from_it(
    kept_in_s3: dict[str, Any], s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    async with real_broker(tmp_path, more={**kept_in_s3, "workers": 2}) as real:
        source = tmp_path / "source"
        for number in range(6):
            source.write_bytes(b"%d" % number)
            await real.files.put_file(source, f"alice/in/{number}", await read_content(source))
        assert len(s3.uploads) == 6
        spec = StreamSpec(machine="m", run="true", needs=Needs(exchange=Exchange.DISK))
        await real.researcher.put_stream(STREAM, spec)
        new = NewItem(url="file:alice/in/0")
        assert [pushed.accepted async for pushed in real.researcher.push(STREAM, [new], "k" * 32)] == [1]
        room = Room(vcpus=2, memory_mib=1024, disk_mib=100_000, accelerator=Accelerator.TCG, exchanges=(Exchange.DISK,))
        request = DispatchRequest(dispatch_key="k" * 32, launcher="l", node="n", room=room, wait_ms=10_000)
        dispatched = await real.dispatches.dispatch(request)
    assert dispatched is not None
    assert dispatched.staged is not None
    assert dispatched.staged.input is not None
    staged = dispatched.staged.input
    assert staged.url.startswith(f"{s3.url}/")
    assert (staged.target, staged.size_bytes, staged.digest) == ("file:alice/in/0", 1, digest_of(b"0"))


async def test_without_a_bucket_nothing_is_announced_and_an_input_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    async with real_broker(tmp_path) as real, Session(real.url) as session:
        source = tmp_path / "source"
        source.write_bytes(CONTENT)
        await real.files.put_file(source, "alice/in", await read_content(source))
        await real.push("true", "file:alice/in")
        ticket = (await real.dispatch()).ticket
        async with aiohttp.ClientSession() as http:
            launcher = Api(http, real.url, None)
            guest = launcher.bearing((await claim(launcher, ticket)).json["lease"])
            told = (await guest.ok("POST", "/v1/lease/urls", json={}))["input"]
        assert (told["size_bytes"], told["digest"]) == (len(CONTENT), digest_of(CONTENT))
        await Files(session).get_file(told["url"], tmp_path / "back", None)
    assert (tmp_path / "back").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"files": "s3://no-such-bucket"}, "users' files cannot be kept in s3://no-such-bucket: .*404 Not Found"),
        ({"files_endpoint": "http://127.0.0.1:9"}, "it cannot be reached"),
        ({"files_credentials": "/nowhere"}, "files_credentials: /nowhere cannot be read"),
        ({"files_credentials": None}, "set files_credentials, or AWS_ACCESS_KEY_ID"),
    ],
)
async def test_a_broker_does_not_start_over_a_bucket_that_it_cannot_write(
    kept_in_s3: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], sentence: str
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    told = {"data": tmp_path / "data", "listen": "127.0.0.1:0", "user": "alice", **kept_in_s3, **changed}
    with pytest.raises(CannotServe, match=sentence):
        async with running_broker(load_settings(told)):
            pass


async def test_files_stay_where_they_are(
    kept_in_s3: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    async with real_broker(tmp_path) as real:
        await real.files.put_file(tmp_path / "image", "alice/in", await read_content(tmp_path / "image"))
    told = {"data": tmp_path / "data", "listen": "127.0.0.1:0", "user": "alice", **kept_in_s3}
    with pytest.raises(CannotServe, match="are in the data folder, not in s3://"):
        async with running_broker(load_settings(told)):
            pass


async def test_a_bucket_is_one_brokers_alone(
    kept_in_s3: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    async def start(data: str) -> None:
        told = {"data": tmp_path / data, "listen": "127.0.0.1:0", "user": "alice", **kept_in_s3}
        async with running_broker(load_settings(told)):
            pass

    for _ in range(2):
        await start("data")
    # It would take what the other one's records name for nobody's, and remove it.
    with pytest.raises(CannotServe, match="another broker, or another data folder, keeps its files there"):
        await start("other")
    await start("data")


@pytest.mark.parametrize("wrong", [{"files": "bucket"}, {"files": "s3://b/../c"}, {"files_endpoint": "host:1"}])
def test_what_is_no_bucket_is_said_to_be_none(wrong: dict[str, str]) -> None:
    with pytest.raises(BadSettings, match="write "):
        load_settings({"user": "alice", **wrong})
