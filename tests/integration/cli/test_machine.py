"""`broker machine …` on a desktop, against a real broker, with real images and a real libvirt."""

import asyncio
import base64
import hashlib
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.integration.desktop.images import (
    MIB,
    TEXT,
    content_of,
    make_overlay,
    make_raw,
    make_variables,
    qemu_img,
    write,
)
from tests.integration.desktop.libvirt import NAME, Desktop, desktop
from tests.support.api import IMAGE, XML
from tests.support.grid import Broker, Home, Said, free_port
from tests.support.waiting import until

UEFI = """
<domain type='kvm'><name>d</name><memory unit='MiB'>512</memory><vcpu>2</vcpu>
  <os><type machine='q35'>hvm</type><loader type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>{nvram}</os>
  <devices>
    <disk type='file'><driver type='qcow2'/><source file='{disk}'/><target dev='vda'/></disk>
    <graphics type='spice'/>
  </devices>
</domain>"""


def add(home: Home, name: str, *arguments: str | Path, stdin: str | None = None) -> Said:
    work = home.folder / "work"
    said = home.run("broker", "machine", "add", name, *map(str, arguments), "--work-folder", str(work), stdin=stdin)
    assert not work.exists() or list(work.iterdir()) == []
    assert "Traceback" not in said.err
    return said


def added(home: Home, name: str, *arguments: str | Path, stdin: str | None = None) -> str:
    said = add(home, name, *arguments, stdin=stdin)
    assert said.status == 0, said
    return said.out


def machine(broker: Broker, name: str) -> Any:
    return broker.call("GET", f"/v1/machines/alice/{name}", token=broker.token())


def kept(broker: Broker, digest: str) -> Path:
    """Return the file in which the broker keeps an image."""
    [path] = [
        path
        for path in (broker.data / "files").rglob("*")
        if path.is_file() and digest.removeprefix("sha256:") in str(path)
    ]
    return path


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """The top of a chain: qcow2 over raw."""
    return make_overlay(tmp_path / "top.qcow2", make_raw(tmp_path / "base.img"), "raw")


def test_a_uefi_machine_goes_over_with_its_chain_flat_and_its_variables(
    home: Home, broker: Broker, top: Path, tmp_path: Path
) -> None:
    write(top, "qcow2", 32 * MIB, 0x33)
    variables = make_variables(tmp_path / "VARS.fd")
    xml = UEFI.format(disk=top, nvram=f"<nvram>{variables}</nvram>")

    said = added(home, "uefi", "-", "--with-backing", stdin=xml)

    lines = said.splitlines()
    assert lines[0] == "the XML is accepted: 2 vcpus, 512 MiB, uefi"
    assert "not given to a vm: graphics" in said
    assert "qcow2, 2 layers" in said
    [shown_variables] = [line.split() for line in lines if line.startswith("UEFI  ")]
    assert shown_variables == ["UEFI", "variables", "128.0", "KiB", "128.0", "KiB", "all", "of", str(variables)]
    assert lines[-1] == "machine alice/uefi is there, revision 1: 2 vcpus, 512 MiB, uefi"
    view = machine(broker, "uefi")
    content = content_of(kept(broker, view["disks"]["vda"]["digest"]), "qcow2", tmp_path)
    assert content[: len(TEXT)] == TEXT
    assert content[32 * MIB : 33 * MIB] == b"\x33" * MIB
    assert kept(broker, view["nvram"]["digest"]).read_bytes() == variables.read_bytes()
    shown = home.ok("broker", "machine", "show", "uefi")
    assert "UEFI variables" in shown
    assert home.ok("broker", "machine", "show", "uefi", "--xml") == f"{xml}\n"

    again = added(home, "uefi", "-", "--with-backing", "--fresh-nvram", stdin=xml)
    assert "disk vda: " in again
    assert "was there already" in again
    assert machine(broker, "uefi").get("nvram") is None


def test_an_xml_in_a_file_chooses_no_private_file_for_the_uefi_variables(
    home: Home, broker: Broker, top: Path, tmp_path: Path
) -> None:
    private = tmp_path / "id_ed25519"
    private.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    xml = UEFI.format(disk=top, nvram=f"<nvram>{private}</nvram>")

    chosen = add(home, "x", "-", "--with-backing", stdin=xml)
    given = add(home, "x", "-", "--with-backing", "--nvram", private, stdin=xml)

    assert (chosen.status, given.status) == (1, 1)
    assert f"the XML chose {private} for the UEFI variables" in chosen.err
    assert f"there are no UEFI variables in {private}" in given.err
    assert [len(said.err.splitlines()) for said in (chosen, given)] == [1, 1]
    assert "uploaded" not in chosen.out + given.out
    renamed = private.rename(tmp_path / "d_VARS.fd")
    assert (
        "no UEFI variables in"
        in add(home, "x", "-", "--with-backing", stdin=UEFI.format(disk=top, nvram=f"<nvram>{renamed}</nvram>")).err
    )


def test_uploads_that_were_left_are_shown_and_dropped(home: Home, broker: Broker, tmp_path: Path) -> None:
    for number in range(16):
        digest = f"sha256:{hashlib.sha256(bytes([number])).hexdigest()}"
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Length": "10",
            "Upload-Metadata": f"digest {base64.b64encode(digest.encode()).decode()}",
        }
        request = urllib.request.Request(f"{broker.url}/v1/uploads", method="POST", headers=headers)
        request.add_header("Authorization", f"Bearer {broker.token()}")
        urllib.request.urlopen(request, timeout=10).close()
    image = make_raw(tmp_path / "one-more.img", b"one more", MIB)

    refused = add(home, "more", "-", "--disk", f"vda={image}", stdin=XML)
    dropped = home.ok("broker", "machine", "uploads", "--drop")

    assert (refused.status, "`broker machine uploads --drop` removes them" in refused.err) == (4, True)
    assert dropped.count("removed") == 16
    assert home.ok("broker", "machine", "uploads") == "no upload is unfinished\n"
    added(home, "more", "-", "--disk", f"vda={image}", stdin=XML)


def test_an_image_server_that_does_not_answer_is_named(home: Home, broker: Broker) -> None:
    server = f"https://127.0.0.1:{free_port()}"

    said = add(home, "x", "-", "--disk", f"vda={server}/d.qcow2#sha256={'0' * 64}", stdin=XML)

    assert said.status == 1
    assert f"disk vda: {server}/d.qcow2 cannot be reached" in said.err
    assert "is the broker running there" not in said.err


def test_what_is_refused_is_told_before_anything_is_copied(home: Home, broker: Broker, tmp_path: Path) -> None:
    xml = """<domain type='kvm'><name>d</name><memory unit='MiB'>512</memory><vcpu>2</vcpu><os><type>hvm</type></os>
      <devices><disk type='file'><source file='/etc/shadow'/><target dev='vda'/></disk>
      <hostdev mode='subsystem' type='pci'/></devices></domain>"""

    said = add(home, "bad", "-", stdin=xml)

    assert said.status == 4
    assert "disk vda: no image was given for it; add --disk vda=FILE" in said.err
    assert "hostdev" in said.err
    assert said.out == ""


def test_a_dry_run_shows_the_sizes_and_uploads_nothing(home: Home, broker: Broker, top: Path) -> None:
    before = set((broker.data / "files").rglob("*"))

    said = added(home, "dry", "-", "--disk", f"vda={top}", "--with-backing", "--dry-run", stdin=XML)

    assert "vda   qcow2, 2 layers  64.0 MiB" in said
    assert "a compressed copy" in said
    assert said.splitlines()[-1] == "nothing was copied or uploaded: --dry-run"
    assert set((broker.data / "files").rglob("*")) == before
    assert "there is no machine alice/dry" in home.run("broker", "machine", "show", "dry").err


def test_as_is_uploads_the_file_unchanged(home: Home, broker: Broker, top: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose.qcow2"
    qemu_img("convert", "-O", "qcow2", tmp_path / "base.img", loose)

    added(home, "as-is", "-", "--disk", f"vda={loose}", "--as-is", stdin=XML)
    refused = add(home, "as-is", "-", "--disk", f"vda={top}", "--with-backing", "--as-is", stdin=XML)

    digest = hashlib.sha256(loose.read_bytes()).hexdigest()
    assert machine(broker, "as-is")["disks"]["vda"]["digest"] == f"sha256:{digest}"
    assert (refused.status, "leave --as-is out" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ((), 2, "FILE.xml, - for stdin, or --domain VM"),
        (("-", "--domain", "x"), 2, "FILE.xml, - for stdin, or --domain VM"),
        (("-", "--live"), 2, "name the machine with --domain VM"),
        (("-", "--connect", "qemu:///system"), 2, "add --domain VM"),
        (("-", "--as-is", "--install-guest"), 2, "leave one out"),
        (("-", "--disk", "vda=/a", "--disk", "vda=/b"), 2, "--disk vda is given twice, /a and /b"),
        (("-", "--disk", "vda=/no/such.qcow2"), 1, "there is no file /no/such.qcow2; give it with --disk vda=PATH"),
        (("-", "--disk", "vda=/dev/null"), 1, "/dev/null is no file and no disk"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    home: Home, broker: Broker, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    said = add(home, "x", *arguments, stdin=XML)

    assert (said.status, sentence in said.err) == (status, True), said
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(("tool", "package"), [("qemu-img", "qemu-utils"), ("virsh", "libvirt-clients")])
def test_a_missing_tool_is_told_with_its_package(
    home: Home, broker: Broker, top: Path, tool: str, package: str
) -> None:
    bare = Home(home.folder, {"PATH": "/nowhere"})
    arguments = ("--domain", "d") if tool == "virsh" else ("-", "--disk", f"vda={top}")

    said = add(bare, "x", *arguments, stdin=XML)

    assert said.status == 1
    assert f"{tool} is not installed: install {package}" in said.err


def test_a_machine_is_shared_and_removed(home: Home, broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "m.img").write_bytes(IMAGE)
    added(home, "ours", "-", "--disk", f"vda={tmp_path / 'm.img'}", stdin=XML)

    home.ok("broker", "machine", "share", "ours", "bob")
    assert "bob" in home.ok("broker", "machine", "show", "ours")
    home.ok("broker", "machine", "unshare", "ours", "bob")
    assert "nobody" in home.ok("broker", "machine", "show", "ours")

    unsure = home.run("broker", "machine", "rm", "ours", stdin="n\n")
    assert (unsure.status, "it was not confirmed" in unsure.err) == (2, True)
    assert "alice/ours" in home.ok("broker", "machine", "list")
    assert home.ok("broker", "machine", "rm", "ours", "--yes") == "machine alice/ours is removed\n"
    assert "alice/ours" not in home.ok("broker", "machine", "list")


def make_certificate(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@asynccontextmanager
async def image_server(folder: Path, image: Path) -> AsyncIterator[str]:
    """Serve one image by https; the certificate is `folder/cert.pem`."""
    cert, key = make_certificate(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    app = web.Application()
    app.router.add_static("/", image.parent)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}/{image.name}"
    finally:
        await runner.cleanup()


async def test_an_image_served_elsewhere_is_named_and_never_uploaded(
    home: Home, broker: Broker, top: Path, tmp_path: Path
) -> None:
    public = tmp_path / "public"
    public.mkdir()
    image = public / "whole.qcow2"
    qemu_img("convert", "-c", "-O", "qcow2", top, image)
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    make_overlay(public / "overlay.qcow2", "/etc/passwd", "raw")
    trusting = Home(home.folder, {"SSL_CERT_FILE": str(tmp_path / "cert.pem")})

    async with image_server(tmp_path, image) as url:
        given = ("-", "--disk", f"vda={url}#sha256={digest}")
        await asyncio.to_thread(added, trusting, "remote", *given, stdin=XML)
        overlay = url.replace("whole", "overlay")
        refused = await asyncio.to_thread(
            add, trusting, "bad", "-", "--disk", f"vda={overlay}#sha256={digest}", stdin=XML
        )

    assert machine(broker, "remote")["disks"]["vda"] == {
        "digest": f"sha256:{digest}",
        "size_bytes": image.stat().st_size,
        "url": url,
    }
    assert "is no whole image" in refused.err


@pytest.fixture
async def desk() -> AsyncIterator[Desktop]:
    async with desktop() as made:
        yield made


@pytest.mark.vm
async def test_a_machine_of_this_desktop_goes_over_stopped_and_running(
    home: Home, broker: Broker, desk: Desktop, tmp_path: Path
) -> None:
    asked = ("--domain", NAME, "--connect", desk.uri)
    program = Home(home.folder)  # it heeds signals, which only a program's main thread can
    await asyncio.to_thread(added, program, "desk", *asked)
    stopped = machine(broker, "desk")
    await desk.virsh("start", NAME)
    own = await desk.sources()

    refused = await asyncio.to_thread(add, program, "desk", *asked)
    said = await asyncio.to_thread(added, program, "desk", *asked, "--live")

    assert (refused.status, "add --live" in refused.err) == (1, True)
    assert "desk is back on its own disks" in said
    assert (await desk.sources(), desk.files()) == (own, {"base.img", "top.qcow2", "data.img"})
    live = machine(broker, "desk")
    # The halted machine wrote nothing, and the same content gives the same image.
    assert live["disks"] == stopped["disks"]
    assert live["domain_xml"] == stopped["domain_xml"]
    assert content_of(kept(broker, live["disks"]["vdb"]["digest"]), "qcow2", tmp_path).startswith(b"some data")


@pytest.mark.vm
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_live_copy_puts_everything_back(
    home: Home, broker: Broker, desk: Desktop, tmp_path: Path, number: signal.Signals
) -> None:
    await desk.virsh("start", NAME)
    own, files, work = await desk.sources(), desk.files(), tmp_path / "work"
    (tmp_path / "bin").mkdir()
    # A qemu-img that never comes to the end of its copy: the time to interrupt is sure to come.
    slow = tmp_path / "bin/qemu-img"
    slow.write_text('#!/bin/sh\ncase $1 in convert) exec sleep 600 ;; *) exec /usr/bin/qemu-img "$@" ;; esac\n')
    slow.chmod(0o755)
    environment = home.environment()
    environment["PATH"] = f"{slow.parent}:{environment['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *(
            Path(sys.executable).with_name("broker"),
            "machine",
            "add",
            "cut",
            "--domain",
            NAME,
            "--connect",
            desk.uri,
            "--live",
        ),
        *("--work-folder", str(work)),
        env=environment,
    )

    async def is_copying() -> bool:
        return process.returncode is not None or (
            work.exists() and all("live" in path for path in await desk.sources())
        )

    await until(is_copying, "the snapshot is there", timeout_s=30)
    process.send_signal(number)
    async with asyncio.timeout(60):
        assert await process.wait() == 130
    assert (await desk.sources(), desk.files()) == (own, files)
    assert list(work.iterdir()) == []
    assert home.run("broker", "machine", "show", "cut").status == 4
