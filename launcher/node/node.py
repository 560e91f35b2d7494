"""What all vms of a launcher share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from broker.client.dispatch import DispatchClient
from broker.client.session import Session
from launcher.exchange.proxy import Proxy
from launcher.guest_disk import GuestDisk
from launcher.hypervisor.account import Account
from launcher.hypervisor.capabilities import Capabilities
from launcher.hypervisor.hypervisor import Hypervisor
from launcher.images import ImageCache
from launcher.node.abilities import Abilities
from launcher.node.budget import Budgets
from launcher.node.slot import Slot


@dataclass(frozen=True, slots=True)
class Node:
    """`name` is the launcher's; `broker` the address that guests are told, `ca_pem` what they verify it with.

    `session` speaks to the broker, with the launcher's token. `outside` and `mirrors` have none, and go only where a vm
    might: to inputs and outputs at whatever address, without redirects, and to images that somebody else serves.
    `client` is the version that is told to the broker.

    `proxy_port` is where a guest finds the proxy, at the address that is its node's.

    `facts` are told with the end of every vm.
    """

    name: str
    broker: str
    ca_pem: str | None
    client: str
    session: Session
    outside: Session
    mirrors: Session
    dispatches: DispatchClient
    hypervisor: Hypervisor
    capabilities: Capabilities
    account: Account
    proxy: Proxy
    proxy_port: int
    cache: ImageCache
    guest_disk: GuestDisk
    scratch: Path
    slot: Slot
    budgets: Budgets
    abilities: Abilities
    facts: Mapping[str, str]
