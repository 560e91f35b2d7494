"""A researcher's domain XML, which is not trusted, and the domain of one vm that is made of it.

Authoritative is one table (`RULES`): keep, set, drop or refuse, for every element and attribute that is known; what is
not in it is dropped. `examine` says what the table makes of an XML, with all refusals at once; `transform` makes the
domain of one vm; `check_output` judges that once more by a list of its own. Nothing here opens a file, whatever an XML
names: a disk's source is replaced by the image that was given for its target.

What it does not solve: that a node's libvirt can start the result. A machine may depend on hardware that a node's QEMU
does not have; libvirt says so, and the vm's verdict is `xml_refused`.
"""

from launcher.domain_xml.examination import Examination, examine
from launcher.domain_xml.facts import Facts
from launcher.domain_xml.findings import Change, Refusal, XmlRefused
from launcher.domain_xml.firmware import NoFirmware
from launcher.domain_xml.identity import NAMESPACE as METADATA_NAMESPACE
from launcher.domain_xml.identity import Identity, identity_of
from launcher.domain_xml.images import DiskFact, first_to_boot
from launcher.domain_xml.judge import RULES
from launcher.domain_xml.machine_types import NoMachineType
from launcher.domain_xml.output import AllowedPaths, UnsafeOutput, check_output
from launcher.domain_xml.transform import transform
from launcher.domain_xml.vm import DataDisk, Firmware, Node, Share, Vm

__all__ = [
    "METADATA_NAMESPACE",
    "RULES",
    "AllowedPaths",
    "Change",
    "DataDisk",
    "DiskFact",
    "Examination",
    "Facts",
    "Firmware",
    "Identity",
    "NoFirmware",
    "NoMachineType",
    "Node",
    "Refusal",
    "Share",
    "UnsafeOutput",
    "Vm",
    "XmlRefused",
    "check_output",
    "examine",
    "first_to_boot",
    "identity_of",
    "transform",
]
