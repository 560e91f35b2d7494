"""What an operator may set about outside issuers: each a table `[[issuers]]` of the broker's TOML."""

import json
from collections.abc import Iterable
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from broker.client.origins import Origin
from broker.domain.issuers import OutsideIssuer
from broker.domain.paths import Segments
from broker.wire.names import BadName, check_name

MAX_ISSUERS = 32
MAX_PATHS = 1_024
_MAX_CHARACTERS = 512


class IssuerSettings(BaseModel):
    """An issuer whose tokens are taken."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=_MAX_CHARACTERS)

    issuer: str = Field(description="the exact `iss` of its tokens; its keys are found below it, by https")
    audience: str | None = Field(
        None, min_length=1, description="the `aud` its tokens must have; default: the broker's public address"
    )
    paths: tuple[str, ...] = Field(
        min_length=1, max_length=MAX_PATHS, description="for whom it speaks: `/USER`, or `/` for everybody"
    )
    user_claim: str = Field("sub", min_length=1, description="the claim of its tokens whose value is the user's name")
    client_id: str | None = Field(
        None, min_length=1, description="the broker's id as its client; with it people log in by its device flow"
    )

    @field_validator("issuer")
    @classmethod
    def _issuer_is_an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"https", "http"} or not parts.hostname:
            raise ValueError(f"write the exact `iss` of its tokens, such as https://iam.example, and not {value!r}")
        if parts.query or parts.fragment or parts.username is not None or value != value.strip():
            raise ValueError(f"{value!r} has more than host, port and path, which no issuer's name has")
        return value

    @field_validator("paths")
    @classmethod
    def _paths_are_users(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for path in value:
            _prefix(path)
        return value

    @model_validator(mode="after")
    def _logins_are_private(self) -> Self:
        if self.client_id is not None and self.is_plain:
            raise ValueError(f"{self.issuer} has no TLS, so nobody can log in by it: write https://, or no client_id")
        return self

    @property
    def is_plain(self) -> bool:
        return self.issuer.startswith("http://")

    def trusted(self, public_url: str) -> OutsideIssuer:
        """Return what the parts of the broker are told, given its public address."""
        return OutsideIssuer(
            issuer=self.issuer,
            audience=self.audience or public_url,
            prefixes=tuple(dict.fromkeys(_prefix(path) for path in self.paths)),
            user_claim=self.user_claim,
            client_id=self.client_id,
        )


def faults_together(issuers: Iterable[IssuerSettings], trusted: Iterable[str]) -> list[str]:
    """Return what is wrong with the issuers beside each other, and beside the origins that are trusted."""
    names = [issuer.issuer for issuer in issuers]
    origins = {Origin.parse(origin) for origin in trusted}
    twice = sorted({name for name in names if names.count(name) > 1})
    plain = [issuer.issuer for issuer in issuers if issuer.is_plain and Origin.parse(issuer.issuer) not in origins]
    return [f"{name} is there twice: put its paths together" for name in twice] + [
        f"{name} is without TLS, so anybody on the way could put their keys in its place: write https://, or name its "
        "HOST:PORT in outgoing_trusted"
        for name in plain
    ]


def read_list(value: object) -> object:
    """Read a list of tables from an environment variable, where it is JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            "in the environment it is a JSON array of objects; better write [[issuers]] in TOML"
        ) from error


def _prefix(path: str) -> Segments:
    """Read `/` or `/USER`.

    Raises:
        ValueError: on any other shape.
    """
    if path == "/":
        return ()
    try:
        return (check_name(path[1:] if path.startswith("/") else "", "user"),)
    except BadName as error:
        raise ValueError(f"{path!r} is no path of an issuer: write /USER, or / for everybody") from error
