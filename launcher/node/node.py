"""What all vms of a launcher share."""

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
from launcher.node.slot import Slot


@dataclass(frozen=True, slots=True)
class Node:
    """`name` is the launcher's; `broker` the address that guests are told, `ca_pem` what they verify it with."""

    name: str
    broker: str
    ca_pem: str | None
    session: Session
    dispatches: DispatchClient
    hypervisor: Hypervisor
    capabilities: Capabilities
    account: Account
    proxy: Proxy
    cache: ImageCache
    guest_disk: GuestDisk
    scratch: Path
    slot: Slot
