"""What guests and launchers of earlier releases say is still understood, and what they are told they still understand.

The messages' schemas are compared, as the earlier release's own code gives them: a request must not need what it did
not send, an answer must not lack what it relied on. Problems are left out: one whose code a client does not know is
judged by its status.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.freeze_client import REPOSITORY, frozen_clients

SENT = {
    "dispatches": ("DispatchRequest", "DispatchExtend", "VmEvent", "EndVm"),
    "leases": ("ClaimRequest", "LeaseExtend", "UrlsRequest", "CompleteRequest", "FailRequest"),
    "port": ("Hello", "Log"),
}
TOLD = {
    "dispatches": ("DispatchAnswer", "DispatchExtended", "VmEnded"),
    "leases": ("ClaimAnswer", "LeaseExtended", "UrlsAnswer", "Settled"),
    "port": ("Welcome",),
}
_PROGRAM = """
import importlib, json, msgspec, sys
types = [getattr(importlib.import_module(f"broker.wire.{module}"), name)
         for module, names in json.loads(sys.argv[1]).items() for name in names]
print(json.dumps(msgspec.json.schema_components(types)[1]))
"""
Schemas = dict[str, dict[str, Any]]


def schemas(names: dict[str, tuple[str, ...]], sources: Path) -> Schemas:
    """Return the schemas of the messages, and of what they hold, as the code below `sources` has them."""
    said = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM, json.dumps(names)],
        env={**os.environ, "PYTHONPATH": str(sources)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: Schemas = json.loads(said.stdout)
    return found


@pytest.fixture(params=frozen_clients(), ids=lambda path: path.stem)
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    archive: Path = request.param
    with zipfile.ZipFile(archive) as content:
        content.extractall(tmp_path)
    return tmp_path


def assert_understood(sent: Schemas, expected: Schemas) -> None:
    """Assert that whoever expects the one understands the other."""
    for name in sent.keys() & expected.keys():
        given, wanted = sent[name], expected[name]
        assert set(given.get("enum", ())) <= set(wanted.get("enum", ())), f"{name} has a value that is not known"
        missing = set(wanted.get("required", ())) - set(given.get("required", ()))
        assert not missing, f"{name} is needed with {missing}, which may be absent"
        for field in given.get("properties", {}).keys() & wanted.get("properties", {}).keys():
            assert kind(given["properties"][field]) == kind(wanted["properties"][field]), f"{name}.{field}"


def kind(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in {"default", "description"}}


def test_what_earlier_guests_and_launchers_send_is_understood(earlier: Path) -> None:
    then, now = schemas(SENT, earlier), schemas(SENT, REPOSITORY)
    assert then.keys() <= now.keys()
    assert_understood(then, now)


def test_what_earlier_guests_and_launchers_are_told_is_what_they_know(earlier: Path) -> None:
    then, now = schemas(TOLD, earlier), schemas(TOLD, REPOSITORY)
    assert then.keys() <= now.keys()
    assert_understood(now, then)


def test_a_field_that_is_newly_needed_is_found() -> None:
    then: Schemas = {"A": {"properties": {"a": {"type": "integer"}}, "required": ["a"]}}
    now: Schemas = {"A": {"properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a", "b"]}}
    with pytest.raises(AssertionError, match=r"A is needed with \{'b'\}"):
        assert_understood(then, now)
