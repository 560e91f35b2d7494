"""Wiring: from settings to a running launcher, and back to nothing."""

import asyncio
import errno
import importlib.metadata
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import structlog

from broker.client.dispatch import DispatchClient
from broker.client.guarded import GuardedConnector
from broker.client.login import Login
from broker.client.origins import Origin
from broker.client.session import Session
from broker.wire.states import Accelerator, Verdict
from launcher.exchange.dial import judge_of_site
from launcher.exchange.proxy import Proxy
from launcher.guest_disk import ensure_guest_disk
from launcher.hypervisor.accelerator import AcceleratorProbe, probe_accelerator
from launcher.hypervisor.account import Account
from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.in_use import LibvirtInUse, private_libvirt, site_libvirt
from launcher.images import ImageCache, Mirrors, mirror_folder
from launcher.images.errors import cache_failure
from launcher.node.abilities import Abilities, probe_abilities
from launcher.node.agent import Agent
from launcher.node.bounds import Bounds
from launcher.node.budget import Budgets
from launcher.node.checks import check_images_usable
from launcher.node.draining import Drain
from launcher.node.facts import node_facts
from launcher.node.image_looks import look_as
from launcher.node.node import Node
from launcher.node.presence import About, Presence, keep_state_file
from launcher.node.scratch import scratch_folder
from launcher.node.site_libvirt import check_files, destroy_leftovers
from launcher.node.slot import Slot
from launcher.node.slot_end import drain_before_end
from launcher.node.standing import Standing
from launcher.node.verdicts import Ending
from launcher.settings import Settings, SettingsError, default_cache, slot_of
from launcher.slot import SlotFacts

log = structlog.get_logger()

_IMAGE_REDIRECTS = 3
_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


async def run(settings: Settings, login: Login, ca_pem: str | None) -> None:
    """Run a launcher until SIGTERM or SIGINT, or its slot's end; then its vms are stopped and their items given back.

    It ends by itself, too, without work for too long or after enough of it, as the settings say.

    Raises:
        HypervisorError, ImageError, NoRoom, ScratchError, CannotBuildGuestDisk: the node does not allow it; the text
            says what to do.
        ApiError: the broker refuses this launcher.
    """
    drain = Drain(settings.drain_s)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, drain.signalled)
    facts = slot_of(settings)
    for sentence in facts.warnings:
        log.warning("slot_word_passed_over", reason=sentence)
    async with _node(settings, login, ca_pem, facts) as (node, libvirt), asyncio.TaskGroup() as background:
        serving = background.create_task(node.proxy.serve(libvirt.listener))
        looking = background.create_task(node.budgets.serve())
        guarding = background.create_task(_drain_without_libvirtd(libvirt, drain))
        ending = background.create_task(drain_before_end(node.slot, drain))
        log.info("launcher_started", launcher=settings.name, **node.slot.told(), **_told(facts))
        standing, about = Standing(node.slot), _about(settings, login, facts)
        presence = Presence(node.dispatches, standing, about)
        telling = background.create_task(presence.keep())
        writing = background.create_task(keep_state_file(node.scratch, standing, about))
        try:
            refusal = await Agent(node, standing, about, Bounds(settings.idle_s, settings.items)).run(drain)
        finally:
            for task in (serving, looking, guarding, ending, telling, writing):
                task.cancel()
        await _leave(presence, drain)
    log.info("launcher_stopped", launcher=settings.name)
    if refusal is not None:
        raise refusal
    if guarding.done() and not guarding.cancelled():
        raise HypervisorError(f"the launcher's libvirtd ended by itself, and its vms with it: {guarding.result()}")


async def _leave(presence: Presence, drain: Drain) -> None:
    try:
        async with asyncio.timeout(drain.words_left_s()):
            await presence.leave()
    except TimeoutError:
        log.warning("leave_not_answered", reason="the launcher ends")


async def _drain_without_libvirtd(libvirt: LibvirtInUse, drain: Drain) -> str:
    reason = await libvirt.wait_ended()
    log.error("libvirtd_ended", reason=reason)
    drain.has_lost_vms = True
    sentence = f"the launcher's libvirtd ended by itself, and its vms with it: {reason}"
    drain.order_at_once(Ending(Verdict.HOST_ERROR, sentence))
    return reason


def client_version() -> str:
    """Return the version that this launcher, and the guest client it brings, tell the broker."""
    return importlib.metadata.version("vmbroker")


def _told(facts: SlotFacts) -> dict[str, str]:
    """Return where the slot's sizes come from, and its end, for the log."""
    told = {f"{name}_from": source for name, source in facts.sources.items()}
    return told if facts.ends_at is None else {**told, "ends_at": facts.ends_at.isoformat()}


def _about(settings: Settings, login: Login, facts: SlotFacts) -> About:
    return About(
        name=settings.name,
        broker=login.url,
        node_name=socket.gethostname(),
        client=client_version(),
        labels=settings.labels,
        contact=settings.contact,
        users=settings.users,
        sources=facts.sources,
    )


@asynccontextmanager
async def _node(
    settings: Settings, login: Login, ca_pem: str | None, facts: SlotFacts
) -> AsyncIterator[tuple[Node, LibvirtInUse]]:
    async with AsyncExitStack() as stack:
        site = await _site_libvirt(settings, stack)
        account = site.account if site else Account.choose(settings.account)
        cache = await _image_cache(settings, facts.cache_mib, login, account, stack)
        # What is not named by a digest must not come from another account that shares the cache.
        private = cache.own_folder
        with _cache_named(settings.cache):
            probe = await _accelerator(settings, account, private)
            guest_disk = await ensure_guest_disk(private)
        await check_images_usable(account, guest_disk.path)
        scratch = stack.enter_context(scratch_folder(settings.scratch))
        session = await stack.enter_async_context(Session(login.url, token=login.token, ca_pem=ca_pem))
        libvirt = site
        if libvirt is None:
            own = private_libvirt(scratch / "d", account, show_kvm=probe.accelerator is Accelerator.KVM)
            libvirt = await stack.enter_async_context(own)
        trusted = [Origin.parse(origin) for origin in (login.url, *settings.trusted_origins)]
        capabilities = await libvirt.hypervisor.capabilities()
        abilities = await probe_abilities(account, capabilities.emulator, private, scratch)
        if site:
            abilities = await _at_site(abilities, site, settings, scratch)
        node = Node(
            name=settings.name,
            broker=login.url,
            ca_pem=ca_pem,
            client=client_version(),
            session=session,
            outside=await stack.enter_async_context(_guarded(login, ca_pem, trusted, redirects=0)),
            mirrors=await stack.enter_async_context(_guarded(login, ca_pem, trusted, redirects=_IMAGE_REDIRECTS)),
            dispatches=DispatchClient(session),
            hypervisor=libvirt.hypervisor,
            capabilities=capabilities,
            account=account,
            proxy=Proxy(trusted),
            proxy_port=libvirt.proxy_port,
            cache=cache,
            guest_disk=guest_disk,
            scratch=scratch,
            slot=_slot(settings, facts, probe.accelerator, abilities),
            abilities=abilities,
            budgets=Budgets(),
            facts=node_facts(
                capabilities,
                accelerator_reason=probe.reason,
                exchanges=abilities.exchanges,
                launcher_version=client_version(),
            ),
        )
        yield node, libvirt


async def _site_libvirt(settings: Settings, stack: AsyncExitStack) -> LibvirtInUse | None:
    """Open the site's libvirt, if there is one to use, and destroy what dead launchers left there."""
    if settings.libvirt_uri is None:
        return None
    site = await stack.enter_async_context(site_libvirt(settings.libvirt_uri, settings.account))
    for fact in site.facts:
        log.info("isolation", fact=fact.name, holds=fact.holds, reason=fact.sentence)
    await destroy_leftovers(site)
    return site


async def _at_site(abilities: Abilities, site: LibvirtInUse, settings: Settings, scratch: Path) -> Abilities:
    why_no_share = await check_files(site, scratch)
    is_open = settings.network == "open"
    log.info("site_libvirt_probed", virtiofs=why_no_share or "yes", network="open" if is_open else "none")
    has_virtiofs = abilities.has_virtiofs and why_no_share is None
    return replace(abilities, has_virtiofs=has_virtiofs, has_network=is_open)


@contextmanager
def _cache_named(cache: Path) -> Iterator[None]:
    """Name the folder in what the kernel says of its disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        raise cache_failure(cache, error) from error


async def _image_cache(
    settings: Settings, limit_mib: int | None, login: Login, account: Account, stack: AsyncExitStack
) -> ImageCache:
    # Of their own, so that no image that a researcher names is asked of the site's servers.
    origins = [Origin.parse(mirror) for mirror in settings.mirrors if mirror_folder(mirror) is None]
    session = await stack.enter_async_context(_guarded(login, None, origins, redirects=_IMAGE_REDIRECTS))
    cache = ImageCache(
        settings.cache,
        look_as(account),
        limit_mib=limit_mib,
        mirrors=Mirrors(settings.mirrors, session),
        memory=_memory(),
    )
    cache.prepare()
    return cache


def _memory() -> Path | None:
    """Return where this account remembers what it has hashed, None where it has no home."""
    try:
        return default_cache()
    except SettingsError:
        return None


def _guarded(login: Login, ca_pem: str | None, trusted: list[Origin], *, redirects: int) -> Session:
    judge = judge_of_site(trusted)
    return Session(login.url, ca_pem=ca_pem, make_connector=lambda: GuardedConnector(judge), redirects=redirects)


async def _accelerator(settings: Settings, account: Account, memory_folder: Path) -> AcceleratorProbe:
    if settings.accelerator != "auto":
        return AcceleratorProbe(Accelerator(settings.accelerator), "the launcher's settings say so")
    probe = await probe_accelerator(account, memory_folder)
    log.info("accelerator_probed", accelerator=probe.accelerator.value, reason=probe.reason)
    return probe


def _slot(settings: Settings, facts: SlotFacts, accelerator: Accelerator, abilities: Abilities) -> Slot:
    slot = Slot(
        vms=settings.vms,
        vcpus=facts.vcpus.value,
        memory_mib=facts.memory_mib.value,
        disk_mib=facts.disk_mib.value,
        accelerator=accelerator,
        exchanges=abilities.exchanges,
        drain_s=settings.drain_s,
    )
    slot.check()
    slot.learn_end(facts.end, time.time())
    return slot
