"""XML that asks for the host: a file each in `red`, whose first line names the path at which it has to be refused.

`launcher check-machine --disk vda red/*.xml` refuses them all, too.
"""

import re
from pathlib import Path
from typing import NamedTuple

RED = Path(__file__).parent / "red"


class Hostile(NamedTuple):
    name: str
    xml: str
    path: str


def machine(
    devices: str = "",
    *,
    top: str = "",
    os: str = "",
    attributes: str = "",
    disk: str = "<disk type='file'><source file='/etc/shadow'/><target dev='vda' bus='virtio'/></disk>",
) -> str:
    """Return a machine that would be accepted, with something added."""
    return (
        f"<domain type='kvm' {attributes}><name>m</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>"
        f"<os><type arch='x86_64' machine='q35'>hvm</type>{os}</os>{top}<devices>{disk}{devices}</devices></domain>"
    )


def _read(file: Path) -> Hostile:
    xml = file.read_text(encoding="utf-8")
    heading = re.match("<!-- refused at (.+) -->\n", xml)
    assert heading is not None, f"{file.name} does not say where it has to be refused"
    return Hostile(file.stem, xml, heading[1])


HOSTILE = tuple(map(_read, sorted(RED.glob("*.xml"))))
DOMAINS = tuple(hostile for hostile in HOSTILE if hostile.path != "/")
"""Those of them that are a domain at all."""
