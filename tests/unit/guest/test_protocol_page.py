from pathlib import Path

import msgspec
import pytest

from broker.wire.exchange import ExchangeItem, ExchangeOutput, ExchangeResult
from broker.wire.leases import (
    ClaimAnswer,
    ClaimRequest,
    CompleteRequest,
    FailRequest,
    LeaseExtend,
    LeaseExtended,
    LeaseLimits,
    Settled,
    SignedUrl,
    UrlsAnswer,
    UrlsRequest,
)
from broker.wire.port import Hello, Log, Stop, Welcome
from broker.wire.states import FailureCode

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "guest-protocol.md").read_text()
MESSAGES = (
    *(Hello, Log, Welcome, Stop),
    *(ClaimRequest, ClaimAnswer, LeaseExtend, LeaseExtended, UrlsRequest, UrlsAnswer, SignedUrl),
    *(CompleteRequest, FailRequest, Settled),
    *(ExchangeItem, ExchangeOutput, ExchangeResult),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
def test_the_page_names_every_field(message: type[msgspec.Struct]) -> None:
    fields = msgspec.structs.fields(message)
    assert [field.name for field in fields if not {f"`{field.name}`", f'"{field.name}"'} & said()] == []


def test_the_page_names_every_limit() -> None:
    # `lease_ms` is how long the lease lasts without a heartbeat, which a client need not know.
    limits = {field.name for field in msgspec.structs.fields(LeaseLimits)} - {"lease_ms"}
    assert {name for name in limits if f"limits.{name}`" in PAGE} == limits


def test_the_page_explains_every_code_of_a_failure() -> None:
    assert {code.value for code in FailureCode if f"| `{code.value}` |" in PAGE} == {code.value for code in FailureCode}


def said() -> set[str]:
    """Return what stands in the page between backquotes, and between quotes."""
    return {f'"{part}"' for part in PAGE.split('"')} | {f"`{part}`" for part in PAGE.split("`")}
