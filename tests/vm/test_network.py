"""What a vm with a network can reach: one real vm tries all it can think of, and gets to the proxy and nowhere else.

The proxy is tried first, and lets the broker's address through: so what fails does not fail for want of a network.
"""

import ipaddress
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from tests.vm.conftest import Grid

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

METADATA_SERVICE = "169.254.169.254"
SCRIPT = r"""#!/bin/sh
# Usage: tries INPUT OUTPUT; the parameters are the ports and addresses of the node's listeners, and the broker's port.
say() {
	if "$@" </dev/null >/tmp/said 2>&1; then echo reached; else echo failed; fi
}
direct() {
	echo "direct $1 $2: $(say nc -w 2 "$2" "$3")"
}
proxied() {
	credentials=${3:-${http_proxy#http://}}
	key=$(printf %s "${credentials%@*}" | base64 -w 0)
	head="GET $2 HTTP/1.1\r\nHost: anywhere\r\nProxy-Authorization: Basic $key\r\nConnection: close\r\n\r\n"
	# Kept open until an answer can have come: half a connection is none to the proxy.
	status=$({ printf "$head"; sleep 2; } | nc -w 10 10.0.2.2 3128 2>&1 | head -n 1 | cut -d ' ' -f 2)
	echo "proxied $1: ${status:-nothing}"
}
names() {
	echo "name $1: $(say timeout 4 nslookup example.org "$2")"
}
{
	direct proxy 10.0.2.2 3128
	direct loopback 10.0.2.2 "$VMBROKER_PARAM_LOOPBACK_PORT"
	direct broker 10.0.2.2 "$VMBROKER_PARAM_BROKER_PORT"
	for address in $VMBROKER_PARAM_LAN_ADDRESSES; do
		direct lan "$address" "$VMBROKER_PARAM_LAN_PORT"
	done
	direct metadata 169.254.169.254 80
	direct dns 10.0.2.3 53
	direct files 10.0.2.4 139
	direct neighbour 10.0.2.16 22
	direct internet 192.0.2.1 80
	direct v6-gateway fec0::2 3128
	direct v6-dns fec0::3 53
	direct v6-internet 2001:db8::1 80
	names resolver 10.0.2.3
	names v6-resolver fec0::3
	proxied broker "http://127.0.0.1:$VMBROKER_PARAM_BROKER_PORT/v1/none"
	proxied loopback "http://127.0.0.1:$VMBROKER_PARAM_LOOPBACK_PORT/"
	for address in $VMBROKER_PARAM_LAN_ADDRESSES; do
		proxied lan "http://$address:$VMBROKER_PARAM_LAN_PORT/"
	done
	proxied metadata http://169.254.169.254/latest/meta-data/
	proxied internet http://example.org/
	page="http://127.0.0.1:$VMBROKER_PARAM_BROKER_PORT/v1/none"
	proxied nobody "$page" nobody:
	proxied another-vm "$page" 00000000-0000-4000-8000-000000000000:guessed
} 2>&1
exit 3
"""


@dataclass
class Listener:
    """Something of the node's that nobody may reach."""

    address: str
    port: int
    reached_by: list[str] = field(default_factory=list)


@contextmanager
def listening(address: str, port: int = 0) -> Iterator[Listener]:
    """Listen, for the time of the block, and note who comes."""
    with socket.create_server((address, port)) as server:
        listener = Listener(address, server.getsockname()[1])
        server.settimeout(0.2)
        is_over = threading.Event()

        def accept() -> None:
            while not is_over.is_set():
                try:
                    connection, (caller, *_) = server.accept()
                except TimeoutError:
                    continue
                connection.close()
                listener.reached_by.append(caller)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener
        finally:
            is_over.set()
            thread.join()


def lan_addresses() -> list[str]:
    """Return the node's own IPv4 addresses that others on its network could use."""
    table = Path("/proc/net/fib_trie").read_text()
    found = set(re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", table))
    return sorted(each for each in found if not ipaddress.ip_address(each).is_loopback)


@dataclass(frozen=True)
class Tried:
    """What the vm reported, a line for each try, and what its item then said."""

    tries: dict[str, str]
    listeners: list[Listener]
    why: str
    status: str


@pytest.fixture(scope="module")
def tried(grid: Grid, minimal_image: Path) -> Tried:
    with ExitStack() as stack:
        loopback = stack.enter_context(listening("127.0.0.1"))
        addresses = lan_addresses()
        lan = [stack.enter_context(listening(address, loopback.port)) for address in addresses]
        grid.add_machine("curious", minimal_image)
        parameters = {
            "LOOPBACK_PORT": loopback.port,
            "BROKER_PORT": grid.broker.port,
            "LAN_ADDRESSES": " ".join(addresses),
            "LAN_PORT": loopback.port,
        }
        given = [word for name, value in parameters.items() for word in ("--param", f"{name}={value}")]
        script = grid.file("network/tries", SCRIPT.encode())
        grid.add_stream("tries", "curious", "{script} {input} {output}", "--script", str(script), *given)
        grid.push("tries", grid.file("network/input", b"nothing"))
        (item,) = grid.settled("tries", timeout_s=500)
        assert item["state"] == "held", grid.story("tries/1")
        log = grid.home.ok("broker", "logs", "tries/1")
        said = re.findall(r"^\s*((?:direct|proxied|name) .*): (\S+)\s*$", log, re.MULTILINE)
        # The guest has the last word, and the launcher tells the facts when it has cleared the vm away.
        wait_until(
            lambda: "refused" in grid.broker.items("tries")[0]["vm"]["facts"], "the vm's end is told", timeout_s=60
        )
        return Tried(
            tries=dict(said),
            listeners=[loopback, *lan],
            why=grid.home.ok("broker", "why", "tries/1"),
            status=grid.home.ok("broker", "status", "tries/1"),
        )


def test_the_ways_that_are_meant_to_be_open_are(tried: Tried) -> None:
    assert tried.tries["direct proxy 10.0.2.2"] == "reached", tried.tries
    assert tried.tries["proxied broker"] in {"401", "404"}, "the broker's own answer to somebody without a lease"


def test_nothing_but_the_proxy_is_reached(tried: Tried) -> None:
    closed = {name: outcome for name, outcome in tried.tries.items() if name.startswith(("direct", "name"))}
    del closed["direct proxy 10.0.2.2"]
    assert len(closed) >= 12
    assert set(closed.values()) == {"failed"}, closed


def test_the_proxy_leads_to_nothing_of_the_nodes_and_to_no_address_that_the_stream_does_not_name(tried: Tried) -> None:
    refused = {name: outcome for name, outcome in tried.tries.items() if name.startswith("proxied")}
    del refused["proxied broker"]
    assert refused.pop("proxied nobody") == "407"
    assert refused.pop("proxied another-vm") == "407"
    assert set(refused) >= {"proxied loopback", "proxied metadata", "proxied internet"}
    assert set(refused.values()) == {"403"}, refused


def test_the_nodes_listeners_heard_of_nobody(tried: Tried) -> None:
    assert len(tried.listeners) > 1, "this node has an address beside its loopback"
    assert [listener.reached_by for listener in tried.listeners] == [[] for _ in tried.listeners]


def test_the_item_names_what_was_refused(tried: Tried) -> None:
    """Though the guest had the last word: its program failed, and why is told by the launcher."""
    assert "exited with status 3" in tried.why
    for told in (tried.why, tried.status):
        flat = " ".join(told.split())
        assert f"{METADATA_SERVICE}:80" in flat, told
        assert f"127.0.0.1:{tried.listeners[0].port}" in flat, told
