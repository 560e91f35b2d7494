"""The floor: the domain that the launcher booted, booted again without it.

By the plain `virsh create` command at a libvirtd of the same kind, and by QEMU alone with the arguments that libvirt
gave it. Everything else is as it is for the launcher's vm: a fresh overlay over the same image, the same disks beside
it, the same words on its port, the same way to the same broker; only it was all prepared before the clock starts.
"""

import asyncio
import contextlib
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from broker.client.origins import Origin
from broker.wire.dispatches import DispatchAnswer
from broker.wire.port import Welcome
from launcher.exchange.grants import Grant
from launcher.exchange.port import GuestPort
from launcher.exchange.proxy import Proxy
from launcher.hypervisor.account import Account
from launcher.hypervisor.private_daemon import PROXY_PORT, PrivateDaemon, private_daemon
from launcher.processes import communicated

Way = Literal["virsh", "qemu"]

_COMMAND_LIMIT_S = 120
_PORT_LIMIT_S = 60
_PORT_LOOK_S = 0.01
_QEMU = "qemu-system-"


@dataclass(frozen=True)
class Pattern:
    """A domain that the launcher booted, as text, with what in it was that one vm's."""

    xml: str
    folder: str
    image: Path
    image_format: str

    def as_new(self, folder: Path) -> tuple[str, str]:
        """Return the name of a new vm, and the XML of it in its own folder."""
        new_uuid = str(uuid.uuid4())
        name, old_uuid = _text(self.xml, "name"), _text(self.xml, "uuid")
        new_name = f"vmb-{new_uuid[:8]}"
        xml = self.xml.replace(self.folder, str(folder)).replace(old_uuid, new_uuid)
        return new_name, xml.replace(f"<name>{name}</name>", f"<name>{new_name}</name>")

    def overlays(self) -> list[str]:
        """Return the file names of the vm's own disks."""
        return re.findall(rf"{re.escape(self.folder)}/(\w+\.qcow2)", self.xml)

    @property
    def has_kvm(self) -> bool:
        return re.search(r"<domain [^>]*type=.kvm", self.xml) is not None


def pattern_of(xml: str, image: Path, image_format: str) -> Pattern:
    """Learn from a booted domain's XML; its folder is where its console is written."""
    console = re.search(r'<serial type="file">\s*<source path="([^"]+)/console.log"', xml)
    assert console is not None, "every vm of a launcher has a console log"
    return Pattern(xml, console[1], image, image_format)


@dataclass
class PlainVm:
    """A vm prepared, and not begun."""

    dispatch: DispatchAnswer
    folder: Path
    name: str
    grant: Grant


class Floor:
    """A libvirtd of its own and a way to the broker, for vms without a launcher. Use `floor`, which makes one."""

    def __init__(self, daemon: PrivateDaemon, account: Account, folder: Path, broker: str, *, qemu_port: int) -> None:
        self._daemon = daemon
        self._account = account
        self._folder = folder
        self._broker = broker
        self._ports: dict[Way, int] = {"virsh": PROXY_PORT, "qemu": qemu_port}
        self.proxy = Proxy([Origin.parse(broker)])
        self._arguments: list[str] = []
        self._learned_folder = ""

    async def prepare(self, pattern: Pattern, dispatch: DispatchAnswer) -> PlainVm:
        """Do all that the launcher does before the boot."""
        folder = self._folder / dispatch.dispatch[:8]
        folder.mkdir(mode=0o700)
        name, xml = pattern.as_new(folder)
        for overlay in pattern.overlays():
            create = ("qemu-img", "create", "-q", "-f", "qcow2", "-F", pattern.image_format, "-b", str(pattern.image))
            await _run(*create, str(folder / overlay))
            self._account.take(folder / overlay)
        (folder / "domain.xml").write_text(xml)
        self._account.take(folder)
        grant = self.proxy.admit(dispatch.dispatch, [Origin.parse(origin) for origin in dispatch.origins])
        return PlainVm(dispatch, folder, name, grant)

    @contextlib.asynccontextmanager
    async def running(self, vm: PlainVm, way: Way) -> AsyncIterator[int]:
        """Boot the vm for the block; yields when the command was given, in nanoseconds of the epoch."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._clear, vm)
            begun_ns = time.time_ns()
            if way == "virsh":
                await self._virsh("create", str(vm.folder / "domain.xml"))
                stack.push_async_callback(self._destroy, vm)
            else:
                await stack.enter_async_context(self._qemu(vm))
            serving = asyncio.create_task(self._serve(vm, way))
            stack.push_async_callback(_cancelled, serving)
            yield begun_ns

    def learn(self, vm: PlainVm) -> None:
        """Keep the arguments that libvirt gave the QEMU of a running vm, for the vms without libvirt."""
        self._arguments = arguments_of_qemu(vm.name)
        self._learned_folder = str(vm.folder)

    async def _destroy(self, vm: PlainVm) -> None:
        try:
            await self._virsh("destroy", vm.name)
        except RuntimeError as error:
            # A guest that claimed may have been done, and have powered off.
            if "failed to get domain" not in str(error):
                raise

    async def _virsh(self, *command: str) -> None:
        await _run("virsh", "-q", "-c", self._daemon.uri, *command)

    @contextlib.asynccontextmanager
    async def _qemu(self, vm: PlainVm) -> AsyncIterator[None]:
        assert self._arguments, "a vm of virsh's was looked at before"
        arguments = alone(self._arguments, self._learned_folder, str(vm.folder))
        with (vm.folder / "qemu.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=None if self._account.is_own else self._account.uid,
                group=None if self._account.is_own else self._account.gid,
                extra_groups=None if self._account.is_own else list(self._account.groups),
            )
        try:
            yield
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _serve(self, vm: PlainVm, way: Way) -> None:
        def welcome() -> Welcome:
            return Welcome(
                ticket=vm.dispatch.ticket,
                broker=self._broker,
                now=datetime.now(UTC).isoformat(),
                entropy=os.urandom(32),
                proxy=vm.grant.proxy_url(self._ports[way]),
            )

        async with contextlib.AsyncExitStack() as stack:
            port = await _connected(stack, vm.folder / "port.sock")
            await port.serve(welcome)

    async def _clear(self, vm: PlainVm) -> None:
        self.proxy.dismiss(vm.dispatch.dispatch)
        await asyncio.to_thread(shutil.rmtree, vm.folder)


async def _connected(stack: contextlib.AsyncExitStack, socket_path: Path) -> GuestPort:
    """Connect to a vm's port for as long as the stack is open."""
    async with asyncio.timeout(_PORT_LIMIT_S):
        while True:
            try:
                return await stack.enter_async_context(GuestPort(socket_path))
            except (FileNotFoundError, ConnectionRefusedError):
                # QEMU names the socket before it listens, and tells nobody of either.
                await asyncio.sleep(_PORT_LOOK_S)


@contextlib.asynccontextmanager
async def floor(folder: Path, broker: str, *, has_kvm: bool) -> AsyncIterator[Floor]:
    """Run a libvirtd like a launcher's, and serve its vms' network, for the block."""
    account = Account.choose()
    async with (
        private_daemon(folder / "d", account, show_kvm=has_kvm) as daemon,
        asyncio.TaskGroup() as serving,
    ):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            plain = Floor(daemon, account, folder, broker, qemu_port=listener.getsockname()[1])
            tasks = [serving.create_task(plain.proxy.serve(each)) for each in (daemon.listener, listener)]
            try:
                yield plain
            finally:
                for task in tasks:
                    task.cancel()


def arguments_of_qemu(name: str) -> list[str]:
    """Return the command line of the QEMU that runs the domain of this name."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            arguments = file.read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            if _QEMU in arguments[0] and any(f"guest={name}," in argument for argument in arguments):
                return arguments
    raise AssertionError(f"no QEMU runs {name}")


def alone(arguments: Sequence[str], old_folder: str, folder: str) -> list[str]:
    """Return QEMU's arguments for a vm that nobody manages, in another folder.

    What libvirt handed over as open files is named by path instead, its secret is left out, and QEMU does not wait for
    the word to begin.
    """
    options: list[list[str]] = [[arguments[0]]]
    for argument in arguments[1:]:
        if argument.startswith("-"):
            options.append([argument])
        else:
            options[-1].append(_by_path(argument, folder).replace(old_folder, folder))
    return [part for option in options if not _is_libvirts(option) for part in option]


def _is_libvirts(option: Sequence[str]) -> bool:
    is_secret = option[0] == "-object" and '"secret"' in option[-1]
    return is_secret or option[0] in {"-S", "-add-fd"}


def _by_path(argument: str, folder: str) -> str:
    argument = re.sub(r"path=/dev/fdset/\d+", f"path={folder}/console.log", argument)
    if argument.startswith("socket,id=charmonitor,"):
        return re.sub(r"\b(fd|path)=[^,]+", f"path={folder}/monitor.sock", argument, count=1)
    return re.sub(r"^(socket,id=\w+),fd=\d+", rf"\1,path={folder}/port.sock", argument)


def _text(xml: str, tag: str) -> str:
    found = re.search(rf"<{tag}>([^<]+)</{tag}>", xml)
    assert found is not None, tag
    return found[1]


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await communicated(process, _COMMAND_LIMIT_S)
    if process.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` ended with {process.returncode}: {said.decode(errors='replace')}")
