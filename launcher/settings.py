"""The launcher's settings: command line > environment (`VMBROKER_LAUNCHER_…`) > site.toml > default.

Read once, at start; unknown keys are refused and all faults are told at once.
"""

import json
import os
import re
import socket
import tomllib
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from broker.client.origins import Origin
from broker.wire.names import NAME_PATTERN, check_name
from launcher.settings_faults import Sources, faults_of, strange_variables
from launcher.slot import Given, SlotFacts, read_slot


class SettingsError(Exception):
    """The settings are not valid; the text names every fault, a line each.

    Attributes:
        names: The settings that are at fault, as far as single ones are.
    """

    def __init__(self, *faults: str, names: frozenset[str] = frozenset()) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
        self.names = names


_SHARED_CACHE: Final = Path("/var/cache/vmbroker")


def default_cache() -> Path:
    """Return the cache folder of this account alone.

    Raises:
        SettingsError: nobody tells where this account's home is.
    """
    if os.geteuid() == 0:
        # Root's home is closed to the account that QEMU runs under.
        return _SHARED_CACHE
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vmbroker" / "launcher"
    except RuntimeError as error:
        raise SettingsError(
            f"uid {os.geteuid()} has no home folder on this node to keep images in: set HOME, or name one with --cache"
        ) from error


def _default_name() -> str:
    return f"{socket.gethostname()[:40]}-{os.getpid()}"


_PREFIX = "VMBROKER_LAUNCHER_"
_LIBVIRT_HERE: Final = re.compile(r"qemu(\+unix)?:///(system|session)(\?\S+)?")
Positive = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """What a site or a person may say of one launcher. Sizes absent are measured on the node."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True)

    broker: str | None = Field(None, description="address of the broker; default: the one in the launcher's login")
    token_file: Path | None = Field(None, description="file with the launcher's token; default: the launcher's login")
    ca_file: Path | None = Field(None, description="PEM file of the authority that signed the broker's certificate")
    name: str = Field(default_factory=_default_name, pattern=f"^{NAME_PATTERN}$", description="this launcher's name")
    vms: Positive = Field(64, description="most vms at a time")
    vcpus: Positive | None = Field(
        None, description="virtual processors for vms; default: what the batch system and the kernel allow"
    )
    memory_mib: Positive | None = Field(
        None, description="memory for vms, QEMU's own included; default: what batch system, kernel and node allow"
    )
    disk_mib: Positive | None = Field(
        None, description="space for vms' writes in the scratch folder; default: what batch system and node allow"
    )
    accelerator: Literal["auto", "kvm", "tcg"] = Field("auto", description="auto: KVM when a probe proves it works")
    libvirt_uri: str | None = Field(
        None, description="a libvirt of the site's, as qemu:///system; default: a private one, which isolates vms"
    )
    network: Literal["proxy", "open"] = Field(
        "proxy", description="open: with a libvirt_uri, vms may reach whatever the node reaches"
    )
    end: datetime | None = Field(
        None, description="when the slot ends, RFC 3339 with its zone; default: what the batch system says"
    )
    drain_s: Annotated[int, Field(ge=0, le=3_600)] = Field(
        30, description="from the word that a vm's program must stop, at SIGTERM or before the slot's end, to its end"
    )
    idle_s: Annotated[int, Field(ge=10, le=604_800)] | None = Field(
        None, description="a launcher that has had no vm for so long ends by itself; default: it stays"
    )
    items: Positive | None = Field(
        None, description="most items that this launcher takes in all; then it lets its vms finish, and ends"
    )
    users: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="whose items this node runs; default: everybody's whom the token covers"
    )
    labels: Annotated[dict[str, str], NoDecode] = Field(
        {}, description="what `broker launchers` shows of this node beside its sizes; in the environment as JSON"
    )
    contact: str = Field("", max_length=256, description="whom to write to about this node")
    cache_mib: Positive | None = Field(
        None,
        description="most that the image cache takes; default: nine tenths of what it has and what is free, or half of "
        "what is free where scratch is on the same disk",
    )
    mirrors: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="https://HOST/FOLDER or file:///FOLDER with files sha256-HEX, where images are looked for first",
    )
    cache: Path = Field(default_factory=default_cache, description="folder of images, shared by launchers")
    scratch: Path = Field(
        Path("/tmp"),  # noqa: S108 - the folder made there is of a name that nobody can foresee, and 0700 but for passing
        description="folder for what dies with the launcher; keep its path short",
    )
    account: str | None = Field(None, description="account QEMU runs under when the launcher is root")
    trusted_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="HOST:PORT of this node or its network that vms may reach",
    )

    @field_validator("broker")
    @classmethod
    def _broker_is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            if not value.startswith(("http://", "https://")):
                raise ValueError(f"{value!r} is no address of a broker: write http://HOST:PORT or https://HOST")
            Origin.parse(value)
        return value

    @field_validator("cache", "scratch", "token_file", "ca_file")
    @classmethod
    def _is_the_same_from_every_folder(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError(f"{str(value)!r} begins with no /: write the whole path; ~ stands for nothing here")
        return value

    @field_validator("libvirt_uri")
    @classmethod
    def _libvirt_is_of_this_node(cls, value: str | None) -> str | None:
        if value is not None and not _LIBVIRT_HERE.fullmatch(value):
            raise ValueError(
                f"{value!r} is no libvirt of this node: write qemu:///system, qemu:///session or "
                "qemu+unix:///system?socket=/PATH"
            )
        return value

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_are_json(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f'{value!r} is no JSON: write {{"rack": "12"}}') from error

    @field_validator("users")
    @classmethod
    def _are_users(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            check_name(name, "user")
        return value

    @field_validator("end")
    @classmethod
    def _end_has_a_zone(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} names no zone: write {value.isoformat()}Z, or +01:00 behind it")
        return value

    @field_validator("trusted_origins", "users", "mirrors", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("trusted_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Origin.parse(text)
        return value

    @field_validator("mirrors")
    @classmethod
    def _are_mirrors(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for mirror in value:
            if mirror.startswith(("https://", "http://")):
                Origin.parse(mirror)
            elif not mirror.startswith("file:///"):
                raise ValueError(f"{mirror!r} is no mirror: write https://HOST/FOLDER or file:///FOLDER")
        return value

    @model_validator(mode="after")
    def _network_is_open_at_a_sites_libvirt_only(self) -> Self:
        if self.network == "open" and self.libvirt_uri is None:
            raise ValueError(
                'network = "open" goes with a libvirt_uri: with the private libvirt vms reach the launcher\'s proxy '
                "and nothing else, so leave network out, or name the site's libvirt"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes all sources by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=_site_toml())


def _site_toml() -> Path | None:
    named = os.environ.get("VMBROKER_SITE")
    return Path(named) if named else None


def slot_of(settings: Settings) -> SlotFacts:
    """Find out the slot that these settings, the batch system, the kernel and the node give, and who says what."""
    given = Given(
        vcpus=settings.vcpus,
        memory_mib=settings.memory_mib,
        disk_mib=settings.disk_mib,
        cache_mib=settings.cache_mib,
        end=settings.end,
    )
    return read_slot(given, settings.scratch, cache=settings.cache)


def read_settings(**command_line: Any) -> Settings:
    """Read the settings; values of None on the command line were not given, relative paths there are completed.

    Raises:
        SettingsError: with a line for each fault, which names its source.
    """
    given = {key: _completed(value) for key, value in command_line.items() if value is not None}
    site = _site_toml()
    sources = Sources(given, _PREFIX, site, {} if site is None else _read_site(site))
    strange = strange_variables(_PREFIX, Settings.model_fields)
    try:
        settings = Settings(**given)
    except ValidationError as error:
        names, faults = faults_of(error, sources, Settings.model_fields)
        raise SettingsError(*strange, *faults, names=names) from error
    if strange:
        raise SettingsError(*strange)
    return settings


def stand_in(error: SettingsError, **command_line: Any) -> Settings:
    """Return the defaults, with what the command line says and the error does not name."""
    given = {key: _completed(value) for key, value in command_line.items() if value is not None}
    held = {key: value for key, value in given.items() if key not in error.names}
    with suppress(SettingsError):
        held = {"cache": default_cache(), **held}
    return Settings.model_construct(**{"cache": _SHARED_CACHE, **held})


def _completed(value: Any) -> Any:
    return value.absolute() if isinstance(value, Path) and not str(value).startswith("~") else value


def _read_site(site: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(site.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise SettingsError(
            f"VMBROKER_SITE names {site}, which this account cannot read: chmod 644 {site}, and let everybody pass "
            "through the folders above it"
        ) from error
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise SettingsError(f"VMBROKER_SITE names {site}, which is no file") from error
    except OSError as error:
        raise SettingsError(f"VMBROKER_SITE names {site}, which cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{site} is no TOML: {error}") from error
