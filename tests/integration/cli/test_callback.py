"""`broker callback list | replay`: what one's server is told. Whether it is delivered is no matter here."""

import base64
import json

from tests.support.grid import Broker, Home

KEY = f"whsec_{base64.b64encode(b'k' * 32).decode()}"


def test_what_a_server_is_told_is_listed_and_told_once_more(broker: Broker, home: Home) -> None:
    assert "no callbacks: `broker stream add" in home.ok("broker", "callback", "list")
    home.ok("broker", "secret", "add", "hook", "--kind", "webhook_key", stdin=f"{KEY}\n")
    named = ("--callback", "url=https://hooks.invalid/done", "--callback", "secret=hook")
    home.ok("broker", "stream", "add", "told", "--machine", "m", "--run", "/x", *named)
    assert "https://hooks.invalid/done" in home.ok("broker", "stream", "show", "told")
    home.ok("broker", "push", "told", "https://share.example/1", "https://share.example/2")
    for number in (1, 2):
        home.ok("broker", "cancel", f"told/{number}")

    page = json.loads(home.ok("broker", "callback", "list", "-o", "json"))
    assert [each["subject"] for each in page["callbacks"]] == ["alice/told/2", "alice/told/1"]
    second, first = (each["callback"] for each in page["callbacks"])
    shown = home.ok("broker", "callback", "list", "--limit", "1")
    assert second in shown
    assert first not in shown
    assert "item.cancelled  alice/told/2  waiting" in shown
    assert "2 waiting, 0 delivered, 0 dead, 0 dropped" in shown
    _, _, more = shown.partition("more: `broker ")
    assert first in home.ok("broker", *more.strip().rstrip("`").split())
    assert f"{first} is told once more: item.cancelled of alice/told/1" in home.ok(
        "broker", "callback", "replay", first
    )
    gone = home.run("broker", "callback", "replay", f"evt_{'0' * 32}")
    assert (gone.status, "`broker callback list` shows which there are" in gone.err) == (4, True)
