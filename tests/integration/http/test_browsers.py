"""A browser that is led to what a user wrote runs nothing of it, and what is refused is no page."""

import base64

import pytest

from broker.http.contract import Form
from broker.http.route import Route
from broker.http.routes import ROUTES
from tests.support.api import Api, add_stream, claim, digest_of, offer

PAGE = b"<!DOCTYPE html><script>alert(document.cookie)</script>"
OF_USERS = [
    route
    for route in ROUTES
    if route.method == "GET"
    and any(content.form is Form.BYTES for contents in route.operation.answers.values() for content in contents)
    and route.address != "/guest/install"
]
"""Those that answer with bytes of somebody's; the script of `/guest/install` is the broker's own."""


@pytest.fixture
async def written(user: Api, launcher: Api) -> dict[str, str]:
    """Have a page as a file, an image, a console, a log and an XML; return the parts of their addresses."""
    stream = await add_stream(user)
    await user.ok("PUT", "/v1/files/alice/page.html", data=PAGE)
    await user.ok("PUT", f"/v1/images/{digest_of(PAGE)}", data=PAGE)
    await user.ok("POST", f"{stream}/items", json=[{}])
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    guest = launcher.bearing((await claim(launcher, dispatched["ticket"])).json["lease"])
    said = base64.b64encode(PAGE).decode()
    await guest.ok("POST", "/v1/lease/complete", json={"outputs": [], "exit_code": 0, "log": said})
    end = {"launcher": "l1", "verdict": "completed", "sentence": "", "console": said, "domain_xml": PAGE.decode()}
    await launcher.ok("POST", f"/v1/dispatches/{dispatched['dispatch']}/end", json=end)
    return {"user": "alice", "job": "render", "number": "1", "path": "page.html", "digest": digest_of(PAGE)}


def test_there_are_such_routes() -> None:
    assert {route.address.rpartition("/")[2] for route in OF_USERS} == {
        "{digest}",
        "{path}",
        "console",
        "log",
        "domain-xml",
    }


@pytest.mark.parametrize("route", OF_USERS, ids=lambda route: route.address)
async def test_what_a_user_wrote_is_sent_as_something_to_keep(user: Api, written: dict[str, str], route: Route) -> None:
    answer = await user.call("GET", route.address.format_map(written), headers={"Accept": "text/html"})

    assert (answer.status, answer.body) == (200, PAGE)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment; ")
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


@pytest.mark.parametrize(
    "path", ["/", "/<script>", "/v1/streams/<b>/x", "/v1/whoami?<script>=1", "/v1/files/alice/<img>", "/favicon.ico"]
)
@pytest.mark.parametrize("method", ["GET", "PUT", "TRACE"])
async def test_no_refusal_is_a_page(user: Api, method: str, path: str) -> None:
    answer = await user.call(method, path, headers={"Accept": "text/html", "Referer": "https://evil.example/"})

    if answer.status >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "html" not in answer.headers["Content-Type"]
