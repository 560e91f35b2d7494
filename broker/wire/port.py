"""The two-way port between a vm's guest client and its launcher: one JSON object a line, at most 64 KiB each.

The guest speaks first and may repeat itself: a restarted client says hello again and gets the same ticket with a fresh
time and fresh entropy. After that the launcher says nothing more, but `stop` when the vm has to end soon.
"""

import msgspec

PORT_NAME = "org.vmbroker.0"
MAX_LINE_BYTES = 65_536

CREDENTIAL_NAME = "vmbroker.ticket"
"""Where there is no port, the same `Welcome` is read under this name: as a credential, in fw_cfg, on the seed disk."""
FW_CFG_NAME = f"opt/io.systemd.credentials/{CREDENTIAL_NAME}"
"""At most 55 characters. systemd makes a credential of what is there. Source: systemd.system-credentials(7)."""
SEED_LABEL = "cidata"
SEED_FILE = "TICKET.;1"
"""The plain name on the seed disk, beside the credential's as a Rock Ridge and Joliet name. Source: ECMA-119, 7.5."""


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    client: str


class Log(msgspec.Struct, frozen=True, tag_field="type", tag="log"):
    text: str


class Welcome(msgspec.Struct, frozen=True, tag_field="type", tag="welcome"):
    """What a guest needs to claim: `proxy` carries its credentials, `entropy` 32 fresh bytes, `ca` a PEM bundle.

    With `share`, tags of shared folders to try in order, the guest claims nothing, as its launcher does that for it: it
    mounts the first that it can, as virtiofs or 9p, and works by the files there; `ticket` is then empty.
    """

    ticket: str
    broker: str
    now: str
    entropy: bytes
    proxy: str | None = None
    ca: str | None = None
    share: list[str] | None = None


class Stop(msgspec.Struct, frozen=True, tag_field="type", tag="stop"):
    """The launcher will destroy the vm in `in_ms`: stop the program, give the item back, power off."""

    in_ms: int
    reason: str


FromGuest = Hello | Log
