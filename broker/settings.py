"""Settings of the broker: command line over environment (`VMBROKER_BROKER_*`) over TOML over default. Read once."""

import getpass
import ipaddress
import os
import ssl
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from broker.bucket_settings import BucketSettings
from broker.client.origins import Origin
from broker.domain.deadlines import Deadlines
from broker.domain.issuers import OutsideIssuer
from broker.domain.targets import BadTarget, origin_of
from broker.outside_settings import MAX_ISSUERS, IssuerSettings, faults_together, read_list
from broker.telemetry import LogFormat, LogLevel
from broker.wire.names import check_name

ENV_PREFIX = "VMBROKER_BROKER_"
_CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"
MAX_WORKERS = 64
_EVERYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 # compared with, not bound to


class BadSettings(Exception):
    """The settings cannot be used; its text names every fault."""


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def data_home() -> Path:
    """Return the folder of the XDG base directory specification in which programs keep their data."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "vmbroker"


def config_home() -> Path:
    """Return the folder of the XDG base directory specification for settings and logins."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "vmbroker"


def _own_name() -> str:
    """Return the name of whoever runs this; empty where the operating system knows none, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


class Settings(BucketSettings):
    """What an operator may set."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, validate_default=True, env_ignore_empty=True
    )

    data: Path = Field(default_factory=data_home, description="folder of everything the broker keeps")
    listen: str = Field("127.0.0.1:8642", description="HOST:PORT to listen on; port 0 takes a free one")
    host: str | None = Field(None, description="another host to listen on than that of `listen`, at the same port")
    store: str | None = Field(None, description="redis:// or unix:// address of a store; absent: one of its own")
    callbacks_store: str | None = Field(
        None,
        description="redis:// or unix:// address of a Redis for RQ, which executes callbacks; absent: one of its own "
        "beside a store of its own, else the store",
    )
    public_url: str | None = Field(None, description="address under which others reach the broker; default: listen's")
    tls_cert: Path | None = Field(None, description="PEM file of the certificate and its chain")
    tls_key: Path | None = Field(None, description="PEM file of the certificate's key")
    workers: int = Field(1, ge=1, le=MAX_WORKERS, description="processes that serve on the one port, over one store")
    user: str = Field(default_factory=_own_name, description="user who is logged in on this machine at start")
    min_free_mib: int = Field(
        256,
        ge=0,
        le=1_073_741_824,
        description="free space on the data folder's disk, in MiB, below which no push, file or image is accepted",
    )
    heartbeat_s: int = Field(20, ge=1, le=3_600, description="how often guests and launchers show that they are there")
    lease_s: int = Field(
        120, ge=3, le=86_400, description="how long a guest may be silent before its item is taken back"
    )
    launcher_grace_s: int = Field(60, ge=3, le=86_400, description="after how much silence a launcher counts as gone")
    issuers: Annotated[tuple[IssuerSettings, ...], NoDecode] = Field(
        (), max_length=MAX_ISSUERS, description="outside issuers whose tokens are taken: see below"
    )
    outgoing_trusted: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="HOST:PORT that the broker may call at whatever address they have, by plain HTTP too"
    )
    outgoing_ca: Path | None = Field(
        None, description="PEM file of authorities that are trusted besides the system's in what the broker calls"
    )
    log_format: LogFormat = Field("text", description="text or json")
    log_level: LogLevel = Field("info", description="debug, info, warning or error")

    @field_validator("data")
    @classmethod
    def _data_is_absolute(cls, value: Path) -> Path:
        # The store's server runs in a folder of its own, where a relative path would mean another one.
        return value.absolute()

    @field_validator("listen")
    @classmethod
    def _listen_is_an_address(cls, value: str) -> str:
        return str(parse_address(value))

    @field_validator("user")
    @classmethod
    def _user_is_a_name(cls, value: str) -> str:
        if not value:
            raise ValueError("the operating system has no name for you: give --user NAME")
        return check_name(value, "user")

    @field_validator("public_url")
    @classmethod
    def _public_url_is_one(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("write http://HOST:PORT or https://HOST")
        return value.rstrip("/") if value else None

    @field_validator("store", "callbacks_store")
    @classmethod
    def _store_is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("write redis://HOST:PORT/0 or unix:///PATH")
        return value

    @field_validator("issuers", mode="before")
    @classmethod
    def _issuers_are_a_list(cls, value: object) -> object:
        return read_list(value)

    @field_validator("outgoing_trusted", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("outgoing_trusted")
    @classmethod
    def _trusted_are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            Origin.parse(origin)
        return value

    @field_validator("outgoing_ca")
    @classmethod
    def _ca_holds_certificates(cls, value: Path | None) -> Path | None:
        try:
            if value is not None:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=value)
        except OSError as error:  # ssl.SSLError among them
            raise ValueError(f"{value} holds no certificates that can be read: give a PEM file") from error
        return value

    @model_validator(mode="after")
    def _issuers_fit(self) -> Self:
        faults = faults_together(self.issuers, self.outgoing_trusted)
        if faults:
            raise ValueError("issuers: " + "; ".join(faults))
        return self

    @model_validator(mode="after")
    def _deadlines_fit(self) -> Self:
        _ = self.deadlines
        return self

    @property
    def deadlines(self) -> Deadlines:
        """How long each party may be silent."""
        return Deadlines(
            heartbeat_ms=self.heartbeat_s * 1_000,
            lease_ms=self.lease_s * 1_000,
            launcher_grace_ms=self.launcher_grace_s * 1_000,
        )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: give both or none")
        for file in (self.tls_cert, self.tls_key):
            if file is not None and not file.is_file():
                raise ValueError(f"there is no file {file}")
        if not self.address.is_loopback and self.tls_cert is None:
            raise ValueError(
                f"refusing to listen on {self.address} without TLS, since tokens would cross the network in the clear: "
                "give --tls-cert and --tls-key, or listen on 127.0.0.1"
            )
        if self.address.host in _EVERYWHERE and self.public_url is None:
            raise ValueError(f"listening on {self.address}, nobody knows the broker's name: give --public-url")
        return self

    @model_validator(mode="after")
    def _vms_can_be_let_there(self) -> Self:
        url = self.url_at(self.address.port or 1)  # for 0 a port is chosen when the broker starts
        try:
            origin_of(url)
        except BadTarget as error:
            raise ValueError(
                f"the broker would be reached at {url}, which names no host and port that a vm can be let to: "
                "give --public-url https://HOST:PORT, in ASCII"
            ) from error
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        toml = TomlConfigSettingsSource(settings_cls, config_file())
        return init_settings, env_settings, toml

    @property
    def address(self) -> Address:
        address = parse_address(self.listen)
        return address if self.host is None else address._replace(host=self.host.removeprefix("[").removesuffix("]"))

    def url_at(self, port: int) -> str:
        """Return the address under which the broker is reached when it listens on `port`."""
        scheme = "https" if self.tls_cert else "http"
        return self.public_url or f"{scheme}://{self.address._replace(port=port)}"

    def outside_issuers(self, port: int) -> tuple[OutsideIssuer, ...]:
        """Return the issuers that are trusted when the broker listens on `port`."""
        return tuple(issuer.trusted(self.url_at(port)) for issuer in self.issuers)


def config_file() -> Path:
    """Return the TOML file: the one the environment names, else the user's own."""
    named = os.environ.get(_CONFIG_VARIABLE)
    return Path(named) if named else config_home() / "broker.toml"


def parse_address(text: str) -> Address:
    """Read HOST:PORT or [V6]:PORT.

    Raises:
        ValueError: on any other shape.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{text!r} is no address: write HOST:PORT, for example 127.0.0.1:8642")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def load_settings(command_line: Mapping[str, Any]) -> Settings:
    """Read all sources; None on the command line is not given.

    Raises:
        BadSettings: with every fault, one a line.
    """
    faults = [*_unknown_variables(), *_missing_file()]
    try:
        settings = Settings(**{name: value for name, value in command_line.items() if value is not None})
    except ValidationError as error:
        faults += [_sentence(fault) for fault in error.errors()]
    except tomllib.TOMLDecodeError as error:
        faults.append(f"{config_file()} is no TOML: {error}")
    except OSError as error:
        faults.append(f"{config_file()} cannot be read: {error.strerror}")
    else:
        if not faults:
            return settings
    raise BadSettings("\n".join(faults))


def _unknown_variables() -> list[str]:
    known = {f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields} | {_CONFIG_VARIABLE}
    return [
        f"{name}: there is no such setting"
        for name in sorted(os.environ)
        if name.upper().startswith(ENV_PREFIX) and name.upper() not in known
    ]


def _missing_file() -> list[str]:
    named = os.environ.get(_CONFIG_VARIABLE)
    return [f"{_CONFIG_VARIABLE}: there is no file {named}"] if named and not Path(named).is_file() else []


def _sentence(fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{where}: there is no such setting (in {config_file()})"
    text = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {text}" if where else text
