"""The seed disk: how an image with cloud-init, and nothing of vmbroker, comes to run the client.

cloud-init takes a disk labelled `cidata` for its data source, "NoCloud". The seed has it install, for this boot alone,
the same unit that the stub is. In an image that has the stub, systemd therefore sees one unit and one client runs.

The disk is attached to every vm that gets a client, whatever its image, so cloud-init is told to do nothing else of
what it does for a new instance: no accounts, no host keys, no host name, no packages, no file systems grown. What
remains is that it configures the first network interface by DHCP, which is right on the network a vm has.

The disk is the vm's own, because the ticket lies there for a client that finds it nowhere else. It is a file that
cloud-init does not read: what cloud-init reads, it keeps in the image.

Source: cloud-init documentation, "NoCloud", "Boot stages" and "Module reference: Bootcmd, Runcmd".
"""

import io
import textwrap
from importlib import resources
from string import Template

import pycdlib

from broker.wire.port import CREDENTIAL_NAME, SEED_FILE, SEED_LABEL

STUB_UNIT = "stub/vmbroker-guest.service"
META_DATA = "instance-id: vmbroker\n"

_USER_DATA = Template("""\
#cloud-config
cloud_init_modules: [bootcmd]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user]
bootcmd:
  - |
$with_systemd
runcmd:
  - |
$without_systemd
""")
_WITH_SYSTEMD = Template("""\
if [ -d /run/systemd/system ] && [ ! -e /etc/systemd/system/vmbroker-guest.service ]; then
cat >/run/systemd/system/vmbroker-guest.service <<'END'
${unit}END
systemctl daemon-reload
systemctl start --no-block vmbroker-guest.service
fi
""")
_WITHOUT_SYSTEMD = """\
if [ ! -d /run/systemd/system ] && disk=$(blkid -L VMBROKER || findfs LABEL=VMBROKER); then
mkdir -p /run/vmbroker/client
mount -o ro "$disk" /run/vmbroker/client && /run/vmbroker/client/run
fi
"""


def seed_disk(ticket: bytes) -> bytes:
    """Return a vm's seed, an ISO 9660 image with what cloud-init reads and, under the credential's name, `ticket`."""
    return _iso({name: text.encode() for name, text in seed_files().items()} | {CREDENTIAL_NAME: ticket})


def seed_files() -> dict[str, str]:
    """Return what cloud-init finds on the seed, by name."""
    unit = resources.files("broker.wire").joinpath(STUB_UNIT).read_text()
    user_data = _USER_DATA.substitute(
        with_systemd=_indented(_WITH_SYSTEMD.substitute(unit=unit)), without_systemd=_indented(_WITHOUT_SYSTEMD)
    )
    return {"meta-data": META_DATA, "user-data": user_data}


def _iso(files: dict[str, bytes]) -> bytes:
    """Write an image with Joliet and Rock Ridge names: the plain ones of ISO 9660 allow no hyphen.

    The client reads the plain one of the credential.
    """
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, vol_ident=SEED_LABEL, joliet=3, rock_ridge="1.09")
    for number, (name, content) in enumerate(files.items()):
        plain_path = f"/{SEED_FILE}" if name == CREDENTIAL_NAME else f"/FILE{number}.;1"
        iso.add_fp(io.BytesIO(content), len(content), plain_path, rr_name=name, joliet_path=f"/{name}")
    image = io.BytesIO()
    iso.write_fp(image)
    iso.close()
    return image.getvalue()


def _indented(script: str) -> str:
    return textwrap.indent(script, "    ")
