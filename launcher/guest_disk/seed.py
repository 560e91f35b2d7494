"""The seed disk: how an image with cloud-init, and nothing of vmbroker, comes to run the client.

cloud-init takes a disk labelled `cidata` for its data source, "NoCloud". The seed has it install, for this boot alone,
the same unit that the stub is. In an image that has the stub, systemd therefore sees one unit and one client runs.

The disk is attached to every vm that gets a client, whatever its image, so cloud-init is told to do nothing else of
what it does for a new instance: no accounts, no host keys, no host name, no packages, no file systems grown. What
remains is that it configures the first network interface by DHCP, which is right on the network a vm has.

Source: cloud-init documentation, "NoCloud", "Boot stages" and "Module reference: Bootcmd, Runcmd".
"""

import asyncio
import hashlib
import io
import textwrap
from importlib import resources
from pathlib import Path
from string import Template

import pycdlib

from launcher.durable import rename_durably
from launcher.guest_disk.cache import locked

LABEL = "cidata"
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


async def ensure_seed_disk(cache_folder: Path) -> Path:
    """Return the seed, a read-only ISO 9660 image shared by vms, made now unless the folder has it. Safe beside others.

    Raises:
        CannotBuildGuestDisk: another launcher keeps the cache folder locked.
    """
    return await asyncio.to_thread(_ensure, cache_folder)


def seed_files() -> dict[str, str]:
    """Return what is on the seed, by name."""
    unit = resources.files("broker.wire").joinpath(STUB_UNIT).read_text()
    user_data = _USER_DATA.substitute(
        with_systemd=_indented(_WITH_SYSTEMD.substitute(unit=unit)), without_systemd=_indented(_WITHOUT_SYSTEMD)
    )
    return {"meta-data": META_DATA, "user-data": user_data}


def _ensure(cache_folder: Path) -> Path:
    files = seed_files()
    digest = hashlib.sha256("\0".join(word for file in files.items() for word in file).encode()).hexdigest()
    seed = cache_folder / f"seed-{digest[:32]}.iso"
    cache_folder.mkdir(parents=True, exist_ok=True)
    with locked(cache_folder / "guest-disk.lock"):
        if not seed.exists():
            draft = cache_folder / "seed.building"
            draft.write_bytes(_iso(files))
            draft.chmod(0o444)
            rename_durably(draft, seed)
    return seed


def _iso(files: dict[str, str]) -> bytes:
    """Write an image with Joliet and Rock Ridge names: the plain ones of ISO 9660 allow no hyphen."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, vol_ident=LABEL, joliet=3, rock_ridge="1.09")
    for number, (name, text) in enumerate(files.items()):
        content = text.encode()
        plain_path = f"/FILE{number}.;1"
        iso.add_fp(io.BytesIO(content), len(content), plain_path, rr_name=name, joliet_path=f"/{name}")
    image = io.BytesIO()
    iso.write_fp(image)
    iso.close()
    return image.getvalue()


def _indented(script: str) -> str:
    return textwrap.indent(script, "    ")
