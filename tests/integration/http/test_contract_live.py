"""Schemathesis against a live broker: whatever is sent, the answer is one that the document promises, and no 5xx."""

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import hypothesis
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase

from broker.http import openapi
from broker.http.routes import ROUTES
from tests.support.contract_live import Live, blended
from tests.support.grid import Broker, Home, free_port

SEED = 20_261_128
EXAMPLES = int(os.environ.get("VMBROKER_TEST_EXAMPLES", "6"))
"""Cases for each operation, beside those that try each bound of its schemas; more find more."""
SCHEMA = schemathesis.openapi.from_dict(msgspec.json.decode(msgspec.json.encode(openapi.document(ROUTES))))
# Tokens are added below: with those that it makes up it would not come beyond the door.
SCHEMA.config.generation.update(max_examples=EXAMPLES, with_security_parameters=False)
SCHEMA.config.phases.coverage.unexpected_methods = {"TRACE"}
CHECKS = schemathesis.checks.CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "response_headers_conformance",
        "unsupported_method",
    ]
)
ANSWERED: dict[str, Counter[int]] = {}
SUCCESSES: dict[str, set[int]] = {}
"""Of each operation: the statuses of 2xx that it declares, or where it only redirects, those of 3xx."""


@schemathesis.serializer("application/x-ndjson", "application/offset+octet-stream")
def as_it_is(_: object, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    print(f"seed {SEED}, {EXAMPLES} examples of each operation")
    with tempfile.TemporaryDirectory(prefix="vmb-live-") as folder:
        broker = Broker(Home(Path(folder)), free_port())
        with broker.serving():
            yield asyncio.run(Live.peopled(broker))


@SCHEMA.parametrize()
@hypothesis.seed(SEED)
@hypothesis.settings(
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_document_promises(case: Any, live: Live) -> None:
    said = case.operation.definition.raw
    operation = said["operationId"]
    _lead_on(case, live, operation)
    if str(case.query.get("follow")) == "1":
        # Events and what settles go on until their reader leaves, but for lines of what is there.
        del case.query["follow"]
    if "text/event-stream" in str(said["responses"]):
        case.headers["Accept"] = "application/x-ndjson"
    token = live.token(operation, said["security"])
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    answer = case.call_and_validate(base_url=live.broker.url, headers=headers, checks=CHECKS, timeout=20)

    if case.method == case.operation.method.upper():
        ANSWERED.setdefault(operation, Counter())[answer.status_code] += 1
        declared = {int(status) for status in said["responses"] if status.isdecimal()}
        SUCCESSES[operation] = {each for each in declared if each < 300} or {each for each in declared if each < 400}


def test_and_every_operation_answered_with_success_too() -> None:
    print({operation: dict(statuses) for operation, statuses in ANSWERED.items()})
    assert [
        operation for operation, statuses in ANSWERED.items() if statuses.keys().isdisjoint(SUCCESSES[operation])
    ] == []


def _lead_on(case: Any, live: Live, operation: str) -> None:
    """Make most cases good in all but one part, so that they come as far as that part is looked at."""
    chance = crc32(repr((case.path_parameters, case.query, case.headers, case.body)).encode())
    if chance % 5:
        case.path_parameters = {name: live.part(operation, name, chance) for name in case.path_parameters}
    if chance % 7 and (good := live.body(operation)) is not None:
        case.body = blended(good, case.body)
    if chance % 3:
        case.headers.update(live.headers(operation))
