"""Inputs from and outputs to servers of a researcher's own, by the real client and broker: only the vm is missing."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import obstore
import pytest

from broker.client.files import Content
from broker.wire.items import ItemView, NewItem
from broker.wire.names import ItemRef, OwnedName, check_digest
from broker.wire.secrets import PutSecret, SecretKind
from broker.wire.states import ItemState
from broker.wire.streams import OriginAccess, Output, S3Access, StreamSpec
from guest.exits import Exit
from tests.integration.guest.edge import CURRENT_ACCOUNT, OUR_CLIENT, started_guest
from tests.integration.guest.real_broker import STREAM, Broker, real_broker
from tests.support import certificates
from tests.support.s3_server import CREDENTIALS, REGION, SECRET, S3Server, s3_server
from tests.support.web_servers import nginx, webdav

TOKEN = "negotiated.by.the.researcher"
THREE = """#!/bin/sh
mkdir "$VMBROKER_OUTPUT/sub"
for each in one two "sub/three 3"; do cat "$VMBROKER_INPUT" "$VMBROKER_INPUT_MORE" >"$VMBROKER_OUTPUT/$each"; done
"""
TOLD = b"an input, more of it"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        server.make_bucket("lab")
        yield server


@dataclass
class Site:
    """A broker with TLS and what it may ask, a client in no vm, and the folder of the test."""

    real: Broker
    folder: Path

    async def done(self, url: str, more: str, to: str, **spec: Any) -> ItemView:
        """Have an item of two inputs and three outputs done; return it."""
        stream = StreamSpec(
            machine="m", script=THREE, as_user=CURRENT_ACCOUNT, inputs={"more": more}, output=Output(to=to), **spec
        )
        await self.real.researcher.put_stream(STREAM, stream)
        [pushed] = [each async for each in self.real.researcher.push(STREAM, [NewItem(url=url)], "key")]
        dispatched = await self.real.dispatch()
        client = replace(OUR_CLIENT, environment={"SSL_CERT_FILE": str(self.folder / "authority.pem")})
        async with started_guest(self.real.url, self.folder / "run", ticket=dispatched.ticket, client=client) as guest:
            assert await guest.wait() == Exit.COMPLETED, guest.end.logs
            said = (self.folder / "guest.out").read_text() + "".join(guest.end.logs)
        assert TOKEN not in said
        assert SECRET not in said
        view = await self.real.item(ItemRef(STREAM, pushed.first))
        assert view.state is ItemState.DONE
        assert sorted(each.name for each in view.outputs) == ["one", "sub/three 3", "two"]
        return view

    async def secret(self, name: str, value: str, kind: SecretKind) -> None:
        await self.real.researcher.put_secret(OwnedName(STREAM.user, name), PutSecret(value=value.encode(), kind=kind))


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: S3Server) -> AsyncIterator[Site]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    authority = certificates.authority()
    (tmp_path / "authority.pem").write_bytes(authority.pem)
    more = {"outgoing_trusted": (s3.url.removeprefix("http://"),)}
    async with real_broker(tmp_path, authority, ("renci",), more) as real:
        yield Site(real, tmp_path)


async def test_a_token_that_was_negotiated_opens_a_server_for_get_and_plain_put(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "nginx"
    folder.mkdir()
    with nginx(folder, TOKEN) as url:
        for name, content in {"in/a b.txt": b"an input", "in/more": b", more of it"}.items():
            (folder / "files" / name).parent.mkdir(exist_ok=True)
            (folder / "files" / name).write_bytes(content)
        await site.secret("share", TOKEN, SecretKind.BEARER_TOKEN)
        access = {url.removeprefix("http://"): OriginAccess(secret_headers={"Authorization": "share"})}
        view = await site.done(
            f"{url}/in/a%20b.txt",
            f"{url}/in/more",
            f"{url}/up/{{input.path}}/{{name}}",
            access=access,
            trust=("renci",),
        )
        found = {path.name: path.read_bytes() for path in (folder / "files/up").rglob("*") if path.is_file()}
    assert list(found.values()) == [TOLD] * 3
    assert view.vm is not None
    assert all(f".1-{view.vm.dispatch[:8]}" in name for name in found), "a zombie writes elsewhere"
    assert all(TOKEN not in each.url for each in view.outputs)


async def test_webdav_gets_its_folders_and_three_outputs(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "dav"
    folder.mkdir()
    (folder / "in").write_bytes(b"an input")
    (folder / "more").write_bytes(b", more of it")
    (folder / "results of it").mkdir()
    with webdav(folder) as url:
        at = url.replace("http://", "dav://")
        await site.done(f"{at}/in", f"{at}/more", f"{at}/results of it/{{job}}/{{item}}/{{name}}".replace(" ", "%20"))
    found = [path for path in (folder / "results of it").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in found] == [TOLD] * 3
    assert {path.parent.relative_to(folder).as_posix() for path in found} == {
        "results of it/render/1",
        "results of it/render/1/sub",
    }


async def test_a_bucket_is_read_and_written_and_its_results_are_fetched_by_the_researcher(
    site: Site, s3: S3Server, tmp_path: Path
) -> None:
    obstore.put(s3.bucket("lab"), "in/a b.txt", b"an input")
    obstore.put(s3.bucket("lab"), "in/more", b", more of it")
    await site.secret("ceph", CREDENTIALS, SecretKind.AWS_CREDENTIALS)
    access = S3Access(secret="ceph", endpoint=s3.url, region=REGION)
    view = await site.done("s3://lab/in/a%20b.txt", "s3://lab/in/more", "s3://lab/results/{item}/{name}", s3=access)

    assert len(s3.keys("lab", "results/1/")) == 3
    for number, each in enumerate(view.outputs):
        assert each.url.startswith("s3://lab/results/1/")
        path = f"/v1/streams/{STREAM}/items/1/outputs/{quote(each.name)}"
        expected = Content(check_digest(each.digest), each.size_bytes)
        await site.real.files.get_file(path, tmp_path / str(number), expected)
        assert (tmp_path / str(number)).read_bytes() == TOLD
