"""One item by a folder that node and vm share: mount → read → run → write, with no network and nothing of HTTP.

The launcher claims and keeps the lease; it destroys the vm when the item is cancelled, and says by the port when the vm
has to end soon.
"""

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from broker.wire.exchange import ExchangeOutput, ExchangeResult
from broker.wire.states import EXIT_GIVE_BACK
from guest.exits import Exit
from guest.steps.attempt import Attempt, Say
from guest.steps.facts import uptime_s
from guest.steps.failure import StepFailed
from guest.steps.mount import CannotMount, mount_share
from guest.steps.port import Port
from guest.steps.share import Share, ShareUnreadable
from guest.steps.stopping import StopOrders, listening


async def work_by_share(tags: Sequence[str], run_folder: Path, say: Say, port: Port | None = None) -> Exit:
    """Mount the first share that can be, and do the item that lies there. SIGTERM stops it, and the launcher's word."""
    try:
        mounted = mount_share(tags, run_folder / "share")
    except (CannotMount, OSError) as error:
        say(str(error))
        return Exit.NO_SHARE
    say(f"mounted {mounted} {uptime_s():.1f} s after the kernel's start")
    orders = StopOrders()
    with listening(port, orders):
        return await work_in(run_folder / "share", say, orders)


async def work_in(folder: Path, say: Say, orders: StopOrders) -> Exit:
    """Do the item that lies in the folder, and leave its result there."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    share = Share(folder)
    try:
        work = share.read_work()
        share.tell_started()
        say(f"started {work.item}")
        attempt = Attempt(work, share, None, say, orders=orders)
        share.deadline_s = time.monotonic() + attempt.left_s()
        result = await _carried_out(attempt)
        share.write_result(result, attempt.tail.content())
    except ShareUnreadable as error:
        say(str(error))
        return Exit.NO_SHARE
    except OSError as error:
        say(f"the shared folder cannot be written: {error}")
        return Exit.NO_SHARE
    except asyncio.CancelledError:
        # Whoever cancels the only task of this process wants it to end, and it does.
        return Exit.STOPPED
    if result.sentence:
        say(result.sentence)
    if result.exit_code == 0:
        return Exit.COMPLETED
    return Exit.GIVEN_BACK if result.exit_code == EXIT_GIVE_BACK else Exit.ITEM_FAILED


async def _carried_out(attempt: Attempt) -> ExchangeResult:
    """Do the work; never raises for what is the item's fault."""
    try:
        delivered = await attempt.carry_out()
    except StepFailed as failed:
        return ExchangeResult(
            exit_code=failed.exit_code, code=failed.code, sentence=failed.sentence, facts=attempt.facts
        )
    outputs = [ExchangeOutput(name=file.name, size_bytes=file.size_bytes, digest=file.digest) for file in delivered]
    return ExchangeResult(exit_code=0, outputs=outputs, facts=attempt.facts)
