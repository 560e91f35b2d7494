"""A broker whose certificate is not vouched for: neither launcher nor guest speaks to it, and both say why."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.grid import Broker, Home, free_port
from tests.support.launching import launched, short_folder
from tests.support.tls_front import Certificate, TlsFront, make_certificate, tls_front
from tests.support.waiting import wait_until
from tests.vm.conftest import DOMAIN

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

SOON = {
    "VMBROKER_BROKER_HEARTBEAT_S": "2",
    "VMBROKER_BROKER_LEASE_S": "12",
    "VMBROKER_BROKER_LAUNCHER_GRACE_S": "6",
}
STREAM = "trusting"


@dataclass(frozen=True)
class Scene:
    broker: Broker
    front: TlsFront
    good: Certificate
    other: Certificate

    @property
    def address(self) -> tuple[str, ...]:
        return ("--broker", self.front.url)

    def item(self) -> dict[str, Any]:
        return dict(self.broker.items(STREAM)[0])


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A broker behind TLS; `other` is a certificate that nobody was told to trust."""
    with short_folder("vc-") as folder:
        good, other = (make_certificate(folder, name) for name in ("good", "other"))
        port = free_port()
        with tls_front(port, good) as front:
            broker = Broker(Home(folder, SOON), port, ("--public-url", front.url))
            with broker.serving():
                yield Scene(broker, front, good, other)


def test_a_launcher_that_cannot_verify_its_broker_ends_and_says_so(scene: Scene) -> None:
    folder = scene.broker.home.folder
    folders = ("--scratch", str(folder / "n"), "--cache", str(folder / "c"))
    authority = ("--ca-file", str(scene.other.certificate))
    said = scene.broker.home.run("launcher", "run", *scene.address, *authority, *folders, timeout_s=90)

    assert said.status == 1, said
    last = said.err.strip().splitlines()[-1]
    assert last.startswith(f"launcher: the TLS certificate of {scene.front.url}"), said.err
    assert "self-signed certificate" in last
    assert "--ca-file" in last


def test_a_guest_that_cannot_verify_the_broker_gives_its_item_back_with_the_reason(
    scene: Scene, minimal_image: Path
) -> None:
    home, folder = scene.broker.home, scene.broker.home.folder
    trusted = {**home.extra, "SSL_CERT_FILE": str(scene.good.certificate)}
    person = Home(folder, trusted)
    person.ok("broker", "machine", "add", "minimal", str(DOMAIN), "--disk", f"vda={minimal_image}")
    person.ok("broker", "stream", "add", STREAM, "--machine", "minimal", "--run", "/bin/true")
    person.ok("broker", "push", STREAM, "--count", "1")
    authority = ("--ca-file", str(scene.good.certificate))
    with launched(scene.broker, folder, *scene.address, *authority) as log:

        def has(what: str) -> bool:
            return what in log.read_text()

        wait_until(lambda: has("phase=booting"), "the vm boots", timeout_s=120, poll_s=0.05)
        # The launcher goes on over the connection that it has.
        scene.front.show(scene.other)
        wait_until(lambda: has("event=vm_ended"), "the vm has ended", timeout_s=120)
        item = scene.item()
        scene.front.show(scene.good)
        wait_until(lambda: scene.item()["state"] == "done", "the item is done", timeout_s=120)

    (ended,) = [line for line in log.read_text().splitlines() if "vm_ended" in line and "network_cut" in line]
    assert "the guest could not claim the item: the TLS certificate of" in ended
    assert "self-signed certificate" in ended
    said = next(line for line in log.read_text().splitlines() if "event=guest_said" in line and "certificate" in line)
    assert "the broker could not be reached: the TLS certificate" in said
    item = scene.item()
    assert (item.get("attempts", 0), item["boots"]) == (0, 2), "it was given back, and nobody blamed"
