"""What an item has beyond one input: further ones, several outputs, and a work that outlives every signed address."""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from yarl import URL

from broker.auth.urls import LIFE, SignedUrls
from broker.client.files import read_content
from broker.http import server
from broker.wire.states import ItemState
from guest.exits import Exit
from tests.integration.guest.edge import EdgeBroker, started_guest
from tests.integration.guest.real_broker import Broker
from tests.support.cuttable import CuttableWay

CONTENT = bytes(range(256)) * 12_000


class OnceGood(SignedUrls):
    """Addresses that are all over once one of them was used, and that lead by a way of the test's."""

    way: CuttableWay | None = None
    uses: list[str] = []  # noqa: RUF012 # of the one broker of a test
    now_s = 1_000_000

    def sign(self, method: str, path: str, life: timedelta | None = None) -> str:
        self._now_s = lambda: OnceGood.now_s
        signed = URL(super().sign(method, path, life), encoded=True)
        return str(signed.with_port(OnceGood.way.port) if OnceGood.way else signed)

    def check(self, method: str, path: str, query: Mapping[str, str]) -> None:
        super().check(method, path, query)
        OnceGood.now_s += int(LIFE.total_seconds())
        OnceGood.uses.append(method)


@pytest.fixture
def once_good(monkeypatch: pytest.MonkeyPatch) -> type[OnceGood]:
    monkeypatch.setattr(server, "SignedUrls", OnceGood)
    monkeypatch.setattr(OnceGood, "uses", [])
    return OnceGood


@pytest.mark.usefixtures("once_good")
async def test_a_work_outlives_its_addresses_a_cut_fetch_and_three_outputs(
    once_good: type[OnceGood], real: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").write_bytes(CONTENT)
    await real.files.put_file(tmp_path / "in", "alice/in", await read_content(tmp_path / "in"))
    way = CuttableWay(URL(real.url).port or 0, breaks=[1_000_000])
    way.mend()
    monkeypatch.setattr(once_good, "way", way)
    item = await real.push("sh -c 'for each in a b c; do cp {input} {output}/$each; done'", "file:alice/in")

    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket) as guest:
        assert await guest.wait() == Exit.COMPLETED, guest.end.logs
    way.cut()

    view = await real.item(item)
    digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert view.state is ItemState.DONE
    assert [(each.name, each.digest) for each in view.outputs] == [(name, digest) for name in "abc"]
    assert way.broken == 1
    assert once_good.uses.count("GET") == 2
    assert view.vm is not None
    assert view.vm.facts["input_bytes"] == str(len(CONTENT))


async def test_further_inputs_lie_each_in_a_folder_of_its_own(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.input_bytes = b"own"
    broker.inputs = {"dark": b"the dark", "flat_1": b"the flat"}
    broker.script = (
        'cat "$1" "$2" "$VMBROKER_INPUT_FLAT_1" >"$VMBROKER_OUTPUT/all"\n'
        'basename "$VMBROKER_INPUT_DARK"; ls -A; ls "${2%/*}"\n'
    )
    broker.run = "{script} {input} {input.dark}"

    async with started_guest(broker.url, tmp_path) as guest:
        assert await guest.wait() == Exit.COMPLETED, guest.end.logs

    assert broker.files["all"] == b"ownthe darkthe flat"
    assert broker.completed is not None
    assert broker.completed.log == b"same name\nframe 1.exr\nsame name\n"
    assert broker.completed.facts["further_input_bytes"] == "16"


async def test_an_input_that_is_gone_is_named(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.inputs = {"dark": b"the dark", "gone": None}

    async with started_guest(broker.url, tmp_path) as guest:
        assert await guest.wait() == Exit.ITEM_FAILED

    assert broker.failed is not None
    assert broker.failed.sentence == "the input gone https://share.example/gone/same%20name answered 404 Not Found"
