"""Wiring: from settings to a running launcher, and back to nothing."""

import asyncio
import importlib.metadata
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from broker.client.dispatch import DispatchClient
from broker.client.login import Login
from broker.client.session import Session
from broker.wire.states import Accelerator, Verdict
from launcher.exchange.guard import GuardedConnector
from launcher.exchange.origins import Origin
from launcher.exchange.proxy import Proxy
from launcher.guest_disk import ensure_guest_disk, ensure_seed_disk
from launcher.hypervisor.accelerator import AcceleratorProbe, probe_accelerator
from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.hypervisor import Hypervisor
from launcher.hypervisor.private_daemon import PrivateDaemon, private_daemon
from launcher.images import ImageCache
from launcher.node.abilities import Abilities, probe_abilities
from launcher.node.agent import Agent
from launcher.node.checks import check_images_usable
from launcher.node.draining import Drain
from launcher.node.facts import node_facts
from launcher.node.node import Node
from launcher.node.scratch import scratch_folder
from launcher.node.slot import Slot, free_disk_mib, node_memory_mib, node_vcpus
from launcher.node.verdicts import Ending
from launcher.settings import Settings

log = structlog.get_logger()

_IMAGE_REDIRECTS = 3


async def run(settings: Settings, login: Login, ca_pem: str | None) -> None:
    """Run a launcher until SIGTERM or SIGINT; then its vms are destroyed and their items given back.

    Raises:
        HypervisorError, ImageUnavailable, ScratchError, CannotBuildGuestDisk: the node does not allow it; the text says
            what to do.
        ApiError: the broker refuses this launcher.
    """
    drain = Drain()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, drain.order)
    async with _node(settings, login, ca_pem) as (node, daemon), asyncio.TaskGroup() as background:
        serving = background.create_task(node.proxy.serve(daemon.listener))
        guarding = background.create_task(_drain_without_daemon(daemon, drain))
        log.info("launcher_started", launcher=settings.name, **node.slot.told())
        agent = Agent(node, node_name=socket.gethostname(), client=client_version())
        try:
            refusal = await agent.run(drain)
        finally:
            serving.cancel()
            guarding.cancel()
    log.info("launcher_stopped", launcher=settings.name)
    if refusal is not None:
        raise refusal
    if guarding.done() and not guarding.cancelled():
        raise HypervisorError(f"the launcher's libvirtd ended by itself, and its vms with it: {guarding.result()}")


async def _drain_without_daemon(daemon: PrivateDaemon, drain: Drain) -> str:
    reason = await daemon.wait_ended()
    log.error("libvirtd_ended", reason=reason)
    drain.order(Ending(Verdict.HOST_ERROR, f"the launcher's libvirtd ended by itself, and its vms with it: {reason}"))
    return reason


def client_version() -> str:
    """Return the version that this launcher, and the guest client it brings, tell the broker."""
    return importlib.metadata.version("vmbroker")


@asynccontextmanager
async def _node(settings: Settings, login: Login, ca_pem: str | None) -> AsyncIterator[tuple[Node, PrivateDaemon]]:
    account = Account.choose(settings.account)
    cache = ImageCache(settings.cache)
    cache.prepare()
    probe = await _accelerator(settings, account)
    guest_disk = await ensure_guest_disk(settings.cache)
    seed_disk = await ensure_seed_disk(settings.cache)
    await check_images_usable(account, guest_disk.path)
    async with AsyncExitStack() as stack:
        scratch = stack.enter_context(scratch_folder(settings.scratch))
        session = await stack.enter_async_context(Session(login.url, token=login.token, ca_pem=ca_pem))
        daemon = await stack.enter_async_context(
            private_daemon(scratch / "d", account, show_kvm=probe.accelerator is Accelerator.KVM)
        )
        trusted = [Origin.parse(origin) for origin in (login.url, *settings.trusted_origins)]
        hypervisor = await stack.enter_async_context(Hypervisor(daemon.uri, log_folder=daemon.log_folder))
        capabilities = await hypervisor.capabilities()
        abilities = await probe_abilities(account, capabilities.emulator, settings.cache, scratch)
        node = Node(
            name=settings.name,
            broker=login.url,
            ca_pem=ca_pem,
            client=client_version(),
            session=session,
            outside=await stack.enter_async_context(_guarded(login, ca_pem, trusted, redirects=0)),
            mirrors=await stack.enter_async_context(_guarded(login, ca_pem, trusted, redirects=_IMAGE_REDIRECTS)),
            dispatches=DispatchClient(session),
            hypervisor=hypervisor,
            capabilities=capabilities,
            account=account,
            proxy=Proxy(trusted),
            cache=cache,
            guest_disk=guest_disk,
            seed_disk=seed_disk,
            scratch=scratch,
            slot=_slot(settings, scratch, probe.accelerator, abilities),
            abilities=abilities,
            facts=node_facts(
                capabilities,
                accelerator_reason=probe.reason,
                exchanges=abilities.exchanges,
                launcher_version=client_version(),
            ),
        )
        yield node, daemon


def _guarded(login: Login, ca_pem: str | None, trusted: list[Origin], *, redirects: int) -> Session:
    return Session(login.url, ca_pem=ca_pem, make_connector=lambda: GuardedConnector(trusted), redirects=redirects)


async def _accelerator(settings: Settings, account: Account) -> AcceleratorProbe:
    if settings.accelerator != "auto":
        return AcceleratorProbe(Accelerator(settings.accelerator), "the launcher's settings say so")
    probe = await probe_accelerator(account, settings.cache)
    log.info("accelerator_probed", accelerator=probe.accelerator.value, reason=probe.reason)
    return probe


def _slot(settings: Settings, scratch: Path, accelerator: Accelerator, abilities: Abilities) -> Slot:
    return Slot(
        vms=settings.vms,
        vcpus=settings.vcpus or node_vcpus(),
        memory_mib=settings.memory_mib or node_memory_mib(),
        disk_mib=settings.disk_mib or free_disk_mib(scratch),
        accelerator=accelerator,
        exchanges=abilities.exchanges,
    )
