"""The pages of the settings of `broker serve` and of `launcher run`."""

from collections.abc import Mapping
from typing import Any

from broker.outside_settings import IssuerSettings
from broker.settings import ENV_PREFIX
from broker.settings import Settings as BrokerSettings
from docs.generator.layout import code, page, table
from launcher.settings import Settings as LauncherSettings

_LAUNCHER_PREFIX = str(LauncherSettings.model_config["env_prefix"])
_FOUND_BY_BROKER = {"data": "`$XDG_DATA_HOME/vmbroker`", "user": "the operating system's user"}
_FOUND_BY_LAUNCHER = {
    "name": "HOST-PID",
    "vcpus": "measured",
    "memory_mib": "measured: what is available, less 512",
    "disk_mib": "measured: what is free",
    "cache": "`/var/cache/vmbroker` for root, else `$XDG_CACHE_HOME/vmbroker/launcher`",
    "account": "the first that exists of `libvirt-qemu`, `qemu`, `nobody`",
}
"""Defaults that are found out when the program starts."""
_ISSUERS = """\
## Outside issuers

Each is a table `[[issuers]]`, of which a broker may have several:

```toml
[[issuers]]
issuer = "https://iam.example"
paths = ["/alice", "/bob"]
```
"""


def broker_settings() -> str:
    """Return the page of the broker's settings."""
    return page(
        "Settings of `broker serve`",
        f"Command line over environment over TOML (`{ENV_PREFIX}CONFIG`, else `$XDG_CONFIG_HOME/vmbroker/broker.toml`) "
        "over default. `broker check-config` shows what holds, or every fault. In the environment `outgoing_trusted` "
        "is written with commas between, and `issuers` as JSON.",
        _table(ENV_PREFIX, BrokerSettings.model_fields, _FOUND_BY_BROKER),
        _ISSUERS.strip(),
        _issuer_table(),
    )


def launcher_settings() -> str:
    """Return the page of the launcher's settings."""
    return page(
        "Settings of `launcher run`",
        "Command line over environment over TOML (the file that `VMBROKER_SITE` names) over default. "
        "`launcher check-config` shows what holds, or every fault. In the environment a list is written with commas "
        f"between, `{_LAUNCHER_PREFIX}USERS=alice,bob`, and labels as JSON. Paths begin with `/`; on the command line "
        "they need not. "
        "[How to run a launcher](../how-to/run-a-launcher.md).",
        _table(_LAUNCHER_PREFIX, LauncherSettings.model_fields, _FOUND_BY_LAUNCHER),
    )


def _table(prefix: str, fields: Mapping[str, Any], found: Mapping[str, str]) -> str:
    rows = (
        (code(name), code(f"{prefix}{name.upper()}"), _default(name, field, found), field.description or "")
        for name, field in fields.items()
    )
    return table(("setting", "environment", "default", "meaning"), rows)


def _issuer_table() -> str:
    rows = (
        (code(name), "required" if field.is_required() else code(field.default or ""), field.description or "")
        for name, field in IssuerSettings.model_fields.items()
    )
    return table(("key", "default", "meaning"), rows)


def _default(name: str, field: Any, found: Mapping[str, str]) -> str:
    if name in found:
        return found[name]
    assert field.default_factory is None, f"say what the default of {name} is"
    return "" if field.default in (None, ()) else code(str(field.default))
