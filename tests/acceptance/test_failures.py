"""What goes wrong is told in one sentence, and nothing is lost. `docs/reference/failures.md` lists these tests."""

import base64
import json
import subprocess
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import DOMAIN, Grid


@pytest.mark.vm
def test_an_input_that_answers_404_is_named_and_the_item_held(grid: Grid) -> None:
    why = grid.home.ok("broker", "why", "absent/1")
    assert "/no-such-frame.exr answered 404 Not Found" in why
    assert grid.home.run("broker", "results", "absent").out.count("held") == 1


@pytest.mark.vm
def test_a_program_that_exits_3_is_told_with_its_last_words(grid: Grid) -> None:
    why = grid.home.ok("broker", "why", "broken/1")
    assert "exited with status 3" in why
    assert "cannot read the frame" in why
    assert "cannot read the frame" in grid.home.ok("broker", "logs", "broken/1", "--output")


@pytest.mark.vm
def test_the_console_of_a_failed_vm_is_kept_with_its_item(grid: Grid) -> None:
    console = grid.home.ok("broker", "console", "broken/1")
    assert "Linux version" in console or "vmbroker" in console


def test_a_disk_damaged_in_the_brokers_store_boots_nothing_and_is_told(grid: Grid) -> None:
    disk = grid.folder / "damaged.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1M"], check=True)
    grid.home.ok("broker", "machine", "add", "damaged", str(DOMAIN), "--disk", f"vda={disk}")
    digest = digest_of(disk)
    kept = next(path for path in (grid.broker.data / "files").rglob("*") if path.is_file() and digest in str(path))
    kept.chmod(0o600)
    with kept.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff")
    grid.home.ok("broker", "stream", "add", "damaged", "--machine", "damaged", "--run", "/bin/true", "--boots", "1")
    grid.home.ok("broker", "push", "damaged", "--count", "1")
    assert grid.home.run("broker", "watch", "damaged", timeout_s=60).status == 1
    why = grid.home.ok("broker", "why", "damaged/1")
    assert f"image sha256:{digest} is damaged where it is kept" in why
    assert "upload it again" in why


def test_a_token_of_somebody_else_is_refused_with_what_to_do(grid: Grid) -> None:
    home = grid.home
    home.extra["BEARER_TOKEN"] = "eyJhbGciOiJub25lIn0.e30."
    try:
        said = home.run("broker", "status", "copies")
    finally:
        del home.extra["BEARER_TOKEN"]
    assert said.status == 4
    assert said.err.startswith("broker: the token is not accepted")
    assert "BEARER_TOKEN_FILE" in said.err


def test_a_launcher_with_a_wrong_token_ends_with_one_sentence(grid: Grid, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("not-a-token")
    token.chmod(0o600)
    command = ("launcher", "run", "--token-file", str(token), "--accelerator", "tcg")
    folders = ("--scratch", str(grid.folder / "m"), "--cache", str(grid.folder / "c"))
    said = grid.home.run(*command, *folders, timeout_s=60)
    assert said.status == 1
    last = said.err.strip().splitlines()[-1]
    assert last.startswith("launcher: the token is not accepted")
    assert "Traceback" not in said.err


def test_a_machine_that_wants_a_pci_device_is_refused_at_the_door(grid: Grid, minimal_image: Path) -> None:
    hostdev = (
        "<hostdev mode='subsystem' type='pci'><source>"
        "<address domain='0' bus='3' slot='0' function='0'/></source></hostdev></devices>"
    )
    said = grid.home.run(
        *("broker", "machine", "add", "gpu", "-", "--disk", f"vda={minimal_image}"),
        stdin=DOMAIN.read_text().replace("</devices>", hostdev),
    )
    assert said.status == 4
    assert "/domain/devices/hostdev[1]" in said.err
    assert "Traceback" not in said.err
    assert grid.home.run("broker", "machine", "show", "gpu").status == 4


def test_a_disk_source_of_etc_shadow_is_refused_by_its_target_when_no_image_is_given(grid: Grid) -> None:
    said = grid.home.run("broker", "machine", "add", "thief", "-", stdin=with_shadow())
    assert said.status in {2, 4}
    assert "vda" in said.err
    assert "--disk vda=" in said.err


def test_a_disk_source_of_etc_shadow_is_replaced_by_the_image_given_and_never_opened(
    grid: Grid, minimal_image: Path
) -> None:
    grid.home.ok("broker", "machine", "add", "shadow", "-", "--disk", f"vda={minimal_image}", stdin=with_shadow())
    shown = grid.home.ok("broker", "machine", "show", "shadow")
    assert digest_of(minimal_image)[:12] in shown


def test_a_ticket_used_from_elsewhere_is_a_replay_and_costs_the_vm_its_lease(grid: Grid) -> None:
    """Played over HTTP: a dispatch, its guest's claim, and a second claim with another key."""
    grid.home.ok("broker", "stream", "add", "stolen", "--machine", "minimal", "--run", "/bin/true", "--vcpus", "64")
    grid.home.ok("broker", "push", "stolen", "--count", "1")
    dispatch = grid.broker.call(
        "POST", "/v1/dispatch", dispatch_request("stolen-ticket-0001"), grid.broker.token("launcher")
    )
    ticket = dispatch["ticket"]
    first = {"ticket": ticket, "claim_key": key(b"a")}
    claimed = grid.broker.call("POST", "/v1/claim", first)
    assert claimed["item"] == "alice/stolen/1"
    status, problem = refused(grid, "/v1/claim", {"ticket": ticket, "claim_key": key(b"b")})
    assert (status, problem["code"]) == (409, "ticket_replayed")
    assert "ticket" in problem["detail"]
    status, problem = refused(grid, "/v1/lease/extend", {}, claimed["lease"])
    assert (status, problem["code"]) == (409, "lease_lost")
    assert "ready" in grid.home.ok("broker", "status", "stolen")


def with_shadow() -> str:
    xml = DOMAIN.read_text()
    start = xml.index("<source file='") + len("<source file='")
    return xml[:start] + "/etc/shadow" + xml[xml.index("'", start) :]


def digest_of(path: Path) -> str:
    return subprocess.run(["sha256sum", str(path)], check=True, capture_output=True, text=True).stdout.split()[0]


def key(letter: bytes) -> str:
    return base64.b64encode(letter * 32).decode()


def dispatch_request(dispatch_key: str) -> dict[str, Any]:
    room = {"vcpus": 64, "memory_mib": 4096, "disk_mib": 50_000, "accelerator": "tcg"}
    return {"dispatch_key": dispatch_key, "launcher": "thief", "node": "n", "room": room, "wait_ms": 5_000}


def refused(grid: Grid, path: str, body: dict[str, Any], token: str | None = None) -> tuple[int, dict[str, Any]]:
    with pytest.raises(urllib.error.HTTPError) as caught:
        grid.broker.call("POST", path, body, token)
    with caught.value as answer:
        return answer.code, dict(json.load(answer))
