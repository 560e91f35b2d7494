"""What every step of the transform is given."""

from dataclasses import dataclass

from broker.wire.states import Accelerator
from launcher.domain_xml.facts import Facts
from launcher.domain_xml.vm import Node, Vm


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A machine's facts, the vm that is made of it, and the node it runs on."""

    facts: Facts
    vm: Vm
    node: Node

    @property
    def is_emulated(self) -> bool:
        """Say whether QEMU translates the guest's code (TCG), without any help of KVM."""
        return self.node.accelerator is Accelerator.TCG
