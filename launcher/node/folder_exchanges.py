"""The ways without a network: the item lies in a folder when the vm boots, and the launcher stands in for the guest.

`shared` is a folder that node and vm share while it runs; `disk` two small disks; `rootdisk` a folder of the vm's own
disk. They differ in how the folder comes to the vm, in what counts as a sign of life, and in how it is read back.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from broker.wire.dispatches import DispatchAnswer, StagedItem
from broker.wire.exchange import RESULT_FILE, STARTED_FILE
from broker.wire.port import Welcome
from broker.wire.states import Exchange as Kind
from broker.wire.states import Verdict
from launcher.domain_xml import DataDisk, Share, first_to_boot
from launcher.exchange import disks, rootdisk
from launcher.exchange.folder import ItemFault, further_paths, input_path, write_item
from launcher.exchange.outputs import Harvest, harvest_folder, is_there, read_result
from launcher.exchange.programs import ProgramFailed
from launcher.exchange.share_room import why_too_much
from launcher.exchange.virtiofs import virtiofsd
from launcher.hypervisor.vm import StopReason
from launcher.node.attendance import Attendance
from launcher.node.draining import first_of
from launcher.node.exchanges import Attachments, ServedPort, press_power_button, share_welcome
from launcher.node.handing_over import HandedOver, hand_over
from launcher.node.node import Node
from launcher.node.stand_in import StandIn, has_succeeded
from launcher.node.verdicts import Ending

VIRTIOFS_TAG = "vmbroker"
P9_TAG = "vmbroker9p"

_LOOK_S = 0.5
_CLAIM_AFTER_S = 30.0
"""A vm whose first word nobody can hear counts as at work when it has run so long."""
_ITS_OWN_END = frozenset({None, StopReason.GUEST_SHUTDOWN, StopReason.CRASHED})
_WRITING_S = 5.0
"""From the first sight of `result.json` to what is then taken for the whole of it."""
_REST_FACTOR = 10
"""How many times as long as a look through a share took the next one waits."""
_MIB = 1 << 20


class FolderExchange(ABC):
    """What the three ways have in common; made for one vm, in its run folder."""

    def __init__(
        self, node: Node, answer: DispatchAnswer, staged: StagedItem, folder: Path, attendance: Attendance
    ) -> None:
        self._node = node
        self._answer = answer
        self._staged = staged
        self._folder = folder
        self._attendance = attendance
        self._stand_in = StandIn(node.outside, answer, staged, client=node.client, renew=self._renewed)
        self._fault: ItemFault | None = None
        self._asked: Ending | None = None
        self._is_over = False

    async def _renewed(self) -> StagedItem | None:
        return (await self._node.dispatches.again(self._answer.dispatch)).staged

    async def stage(self) -> None:
        """Write the item to the IN folder, its inputs among it; all of them together have the disk's room."""
        self._in_folder.mkdir(parents=True)
        await asyncio.to_thread(write_item, self._in_folder, self._answer, self._staged)
        own = input_path(self._in_folder, self._staged)
        further = await asyncio.to_thread(further_paths, self._in_folder, self._staged)
        left_bytes = self._answer.disk_mib * _MIB
        paths = ({} if own is None else {"": own}) | further
        for name, path in paths.items():
            left_bytes -= await self._stand_in.fetch_input(path, left_bytes, name)
            path.chmod(0o644)
        self._node.account.take(self._in_folder)

    async def refuse(self, fault: ItemFault) -> Ending:
        """End an item that cannot be prepared, by a fault of its own."""
        return await self._stand_in.fail(fault)

    async def watch(self) -> Ending | None:
        """Wait for a sign of life, claim, and keep the lease until the work is done, or the run limit is reached."""
        await self._sign_of_life()
        ending = await self._claim()
        if ending is not None:
            return ending
        try:
            async with asyncio.timeout(self._stand_in.left_s()):
                return await first_of(self._finished(), self._stand_in.keep())
        except TimeoutError:
            self._fault = self._stand_in.run_limit_reached("the vm ran")
            return None
        finally:
            self._is_over = True

    async def ask_to_stop(self, ending: Ending, in_ms: int) -> None:  # noqa: ARG002 - a button tells no time
        """Press the power button; what a vm that runs then leaves without a good result counts as stopped by this."""
        if not self._is_over:
            self._asked = ending
            await press_power_button(self._node, self._answer)

    async def collect(self, reason: StopReason | None) -> Ending | None:
        """Read what the vm left, and deliver it while the lease is kept."""
        self._is_over = True
        if reason not in _ITS_OWN_END:
            return None
        if not self._stand_in.has_claimed and not self._counts_as_claimed():
            return None
        ending = await self._claim()
        return ending or await first_of(self._deliver(), self._stand_in.keep())

    async def _claim(self) -> Ending | None:
        ending = await self._stand_in.claim()
        if ending is None:
            self._attendance.claimed()
        return ending

    async def _deliver(self) -> Ending | None:
        if self._fault is not None:
            return await self._stand_in.fail(self._fault)
        try:
            harvest = await self._harvest()
        except ItemFault as fault:
            return await self._stand_in.fail(fault)
        except (disks.UnreadableDisk, rootdisk.NoRootFileSystem) as error:
            return Ending(Verdict.STOPPED_EARLY, f"the vm powered itself off, and what it left cannot be read: {error}")
        except ProgramFailed as error:
            return Ending(Verdict.HOST_ERROR, f"what the vm left could not be read on this node: {error}")
        if self._asked is not None and not has_succeeded(harvest.result):
            return self._asked
        return await self._stand_in.deliver(harvest)

    @property
    def _in_folder(self) -> Path:
        return self._folder / "in"

    def _made_folder(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        self._node.account.take(folder)
        return folder

    def _counts_as_claimed(self) -> bool:
        """Say whether a vm that ended by itself had come so far that its item counts as tried."""
        return True

    async def _sign_of_life(self) -> None:
        await asyncio.sleep(min(_CLAIM_AFTER_S, self._answer.limits.boot_ms / 2_000))

    async def _finished(self) -> Ending | None:
        """Return when the vm has done its work and may go; one that powers itself off is not waited for here."""
        await asyncio.Event().wait()
        return None

    @abstractmethod
    async def attach(self, overlays: Mapping[str, str]) -> Attachments: ...

    @abstractmethod
    async def _harvest(self) -> Harvest: ...


class SharedExchange(FolderExchange):
    """A folder that the guest mounts, as virtiofs or 9p, with our client or a start-up script of the image's own."""

    def __init__(
        self,
        node: Node,
        answer: DispatchAnswer,
        staged: StagedItem,
        folder: Path,
        attendance: Attendance,
        stack: AsyncExitStack,
    ) -> None:
        super().__init__(node, answer, staged, folder, attendance)
        self._stack = stack
        self._share = folder / "share"
        self._port = ServedPort(folder, answer)
        self._handed_over: HandedOver | None = None

    async def watch(self) -> Ending | None:
        serving = self._port.serve(self._welcome)
        return await first_of(self._too_much(), super().watch(), serving)

    async def ask_to_stop(self, ending: Ending, in_ms: int) -> None:
        """Ask our client, where it is there; an image's own start-up script is sent the power button."""
        if self._is_over or is_there(self._share / "out", RESULT_FILE):
            return
        self._asked = ending
        if not await self._port.ask_to_stop(ending, in_ms):
            await press_power_button(self._node, self._answer)

    async def stage(self) -> None:
        await super().stage()
        (self._share / "out").mkdir()
        for folder in (self._share / "out", self._share):
            self._node.account.take(folder)
        self._handed_over = await asyncio.to_thread(hand_over, self._folder, self._welcome(), self._node.account)

    def _welcome(self) -> Welcome:
        tags = [VIRTIOFS_TAG] * self._node.abilities.has_virtiofs + [P9_TAG] * self._node.abilities.has_9p
        return share_welcome(self._node, tags)

    @property
    def _in_folder(self) -> Path:
        return self._share / "in"

    def _counts_as_claimed(self) -> bool:
        return is_there(self._share / "out", STARTED_FILE) or is_there(self._share / "out", RESULT_FILE)

    async def _sign_of_life(self) -> None:
        await self._until(STARTED_FILE)

    async def _finished(self) -> Ending | None:
        await self._until(RESULT_FILE)
        # Who writes it in place, without a rename, is given the time to do so.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WRITING_S):
                while not await asyncio.to_thread(_has_result, self._share / "out"):  # noqa: ASYNC110 - as below
                    await asyncio.sleep(_LOOK_S)
        return None

    async def _too_much(self) -> Ending:
        """Return when the share takes more than it may."""
        clock = asyncio.get_running_loop().time
        while True:
            began_s = clock()
            sentence = await asyncio.to_thread(why_too_much, self._share, self._answer.disk_mib)
            if sentence is not None:
                return Ending(Verdict.DISK_EXCEEDED, sentence)
            await asyncio.sleep(max(_LOOK_S, _REST_FACTOR * (clock() - began_s)))

    async def _until(self, name: str) -> None:
        while not is_there(self._share / "out", name):  # noqa: ASYNC110 - the guest makes it: no event to wait for
            await asyncio.sleep(_LOOK_S)

    async def attach(self, overlays: Mapping[str, str]) -> Attachments:  # noqa: ARG002 - not its disks
        share, shares = str(self._share), list[Share]()
        if self._node.abilities.has_virtiofs:
            socket = self._folder / "vfs.sock"
            await self._stack.enter_async_context(virtiofsd(self._node.account, self._share, socket))
            shares.append(Share(kind="virtiofs", folder=share, tag=VIRTIOFS_TAG, socket=str(socket)))
        if self._node.abilities.has_9p:
            shares.append(Share(kind="9p", folder=share, tag=P9_TAG))
        return Attachments(has_client=True, handed_over=self._handed_over, shares=tuple(shares))

    async def _harvest(self) -> Harvest:
        return await asyncio.to_thread(harvest_folder, self._share / "out", self._staged)


class DiskExchange(FolderExchange):
    """Two disks, `VMB_IN` and `VMB_OUT`."""

    async def attach(self, overlays: Mapping[str, str]) -> Attachments:  # noqa: ARG002 - not its disks
        account = self._node.account
        await disks.make_in_disk(account, self._in_folder, self._image(disks.IN_LABEL))
        await disks.make_out_disk(account, self._image(disks.OUT_LABEL), self._staged.output_mib)
        return Attachments(
            data_disks=(
                DataDisk(path=str(self._image(disks.IN_LABEL)), serial=disks.IN_LABEL),
                DataDisk(path=str(self._image(disks.OUT_LABEL)), serial=disks.OUT_LABEL, is_writable=True),
            )
        )

    async def _harvest(self) -> Harvest:
        into = self._made_folder(self._folder / "collected")
        return await disks.harvest_disk(self._node.account, self._image(disks.OUT_LABEL), into, self._staged)

    def _image(self, label: str) -> Path:
        return self._folder / f"{label}.raw"


class RootdiskExchange(FolderExchange):
    """A folder of the vm's own root file system."""

    _overlay = Path()

    async def attach(self, overlays: Mapping[str, str]) -> Attachments:
        target = first_to_boot(self._answer.domain_xml.encode(), overlays)
        if target is None:
            raise rootdisk.NoRootFileSystem("the machine has no hard disk that the item's files could be copied into")
        self._overlay = Path(overlays[target])
        await rootdisk.copy_in(
            self._node.account, self._overlay, self._answer.exchange_folder, self._in_folder, self._scratch()
        )
        return Attachments()

    async def _harvest(self) -> Harvest:
        into = self._made_folder(self._folder / "collected")
        tar = await rootdisk.copy_out(
            self._node.account, self._overlay, self._answer.exchange_folder, into, self._staged, self._scratch()
        )
        return await asyncio.to_thread(rootdisk.harvest_tar, tar, into, self._staged)

    def _scratch(self) -> Path:
        """Return the folder of the launcher's, not the vm's, where libguestfs keeps its appliance."""
        scratch = self._node.scratch / "guestfs"
        if not scratch.is_dir():
            scratch.mkdir(mode=0o700)
            self._node.account.take(scratch)
        return scratch


def _has_result(out: Path) -> bool:
    try:
        return read_result(out) is not None
    except ItemFault:
        return False


def folder_exchange(
    node: Node, answer: DispatchAnswer, folder: Path, attendance: Attendance, stack: AsyncExitStack
) -> FolderExchange | None:
    """Make the exchange of a dispatch, None for the network's. What it started ends with the stack."""
    if answer.staged is None:
        return None
    match answer.exchange:
        case Kind.SHARED:
            return SharedExchange(node, answer, answer.staged, folder, attendance, stack)
        case Kind.DISK:
            return DiskExchange(node, answer, answer.staged, folder, attendance)
        case Kind.ROOTDISK:
            return RootdiskExchange(node, answer, answer.staged, folder, attendance)
        case Kind.NETWORK:
            return None
