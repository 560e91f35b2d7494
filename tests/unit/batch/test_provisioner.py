"""One look of a provisioner after the other, over a batch system and a broker in memory."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.client.errors import Unreachable
from broker.wire.jobs import DemandPage
from broker.wire.states import Accelerator, Exchange, HealthState
from launcher.batch.job import JobState
from launcher.batch.order import Order
from launcher.batch.planning import Limits
from launcher.batch.provision_state import LOOKS_BEFORE_LOST, ProvisionState, read_state
from launcher.batch.provisioner import Provisioner
from launcher.batch.submission import Submission
from launcher.slot import LAUNCHER_MIB, QEMU_OVERHEAD_MIB
from tests.unit.batch.fakes import FakeBroker, FakeSystem, demand
from tests.unit.batch.orders import TAG, order

LIMITS = Limits(hard=100, soft=75, queued=50)
BASE = order(memory_mib=1_024, disk_mib=10_240, runtime_s=93_600)


@dataclass
class Scene:
    """A provisioner that can die and be started again over the same folder."""

    folder: Path
    broker: FakeBroker
    system: FakeSystem
    limits: Limits = LIMITS
    base: Order = BASE

    async def look(self) -> ProvisionState:
        """Let a provisioner that was just started look once."""
        submission = Submission(self.folder / TAG)
        submission.folder.mkdir(exist_ok=True)
        state = read_state(submission.folder, TAG)
        work = Provisioner(self.broker, self.system, submission, state, self.base, self.limits, group="group_vmbroker")
        await work.run_once()
        return read_state(submission.folder, TAG)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, FakeBroker(demand(ready=12)), FakeSystem())


async def test_looks_that_follow_each_other_ask_for_as_many_jobs_as_items_and_no_more(scene: Scene) -> None:
    asked = []
    for _ in range(8):
        await scene.look()
        asked.append(len(scene.system.all))
    assert asked == [4, 7, 9, 10, 11, 12, 12, 12]


async def test_a_restart_between_any_two_looks_neither_forgets_nor_doubles(scene: Scene) -> None:
    # Every look of a scene is by a new provisioner over the same folder.
    for _ in range(4):
        await scene.look()
    scene.system.start(job.id for job in scene.system.of(JobState.QUEUED)[:3])
    for _ in range(6):
        await scene.look()
    assert len(scene.system.all) == 12


async def test_a_submission_whose_answer_is_lost_is_found_and_not_repeated(scene: Scene) -> None:
    scene.system.loses_answers = True
    state = await scene.look()
    assert [(asked.slots, asked.is_answered) for asked in state.asked] == [(4, False)]
    scene.system.loses_answers = False
    state = await scene.look()
    assert len(scene.system.all) == 7
    assert all(asked.is_answered for asked in state.asked)


async def test_a_submission_that_never_arrived_is_made_up_for_after_two_looks_without_its_jobs(scene: Scene) -> None:
    scene.system.loses_answers = True
    await scene.look()
    scene.system.all.clear()
    scene.system.loses_answers = False
    counts = []
    for _ in range(LOOKS_BEFORE_LOST):
        await scene.look()
        counts.append(len(scene.system.all))
    assert counts == [3, 6], "first as if its four were there, then without them"


async def test_a_batch_system_that_is_away_changes_nothing_and_is_told_in_the_status(scene: Scene) -> None:
    await scene.look()
    scene.system.is_away = True
    state = await scene.look()
    assert state.trouble == "the batch system does not answer"
    scene.system.is_away = False
    assert (await scene.look()).trouble == ""
    assert len(scene.system.all) == 7


async def test_a_broker_that_is_away_changes_nothing_either(scene: Scene) -> None:
    await scene.look()

    class Away(FakeBroker):
        async def demand(self) -> DemandPage:
            raise Unreachable("the broker cannot be reached")

    scene.broker = Away()
    assert (await scene.look()).trouble == "the broker cannot be reached"
    assert len(scene.system.of(JobState.QUEUED)) == 4


async def test_launchers_with_room_are_counted_until_their_own_jobs_were_heard_of(scene: Scene) -> None:
    scene.broker = FakeBroker(demand(ready=4))
    await scene.look()
    await scene.look()
    first = list(scene.system.all.values())
    scene.system.start(job.id for job in first)
    starting = await scene.look()
    assert "3 starting" in starting.kinds[0].sentence
    for job in first:
        scene.broker.hear(job.launcher)
    assert "3 with room" in (await scene.look()).kinds[0].sentence


async def test_a_job_that_runs_and_is_not_heard_of_for_long_is_not_waited_for(scene: Scene) -> None:
    scene.broker = FakeBroker(demand(ready=3))
    await scene.look()
    scene.system.start(["1.0"], started_s=int(time.time()) - 3_600)
    state = await scene.look()
    assert state.kinds[0].sentence == "3 ready, 1 running unheard of; 3 missing, a third is 1; asks for 1"


async def test_launchers_of_others_that_have_room_are_not_provided_for_again(scene: Scene) -> None:
    for number in range(12):
        scene.broker.hear(f"elsewhere-{number}")
    await scene.look()
    assert not scene.system.all


async def test_a_launcher_that_backs_off_or_is_full_counts_for_nothing(scene: Scene) -> None:
    scene.broker.hear("sick", state=HealthState.BACKING_OFF)
    scene.broker.hear("full", free=None)
    await scene.look()
    assert len(scene.system.all) == 4


async def test_queued_jobs_go_when_nothing_is_ready_any_more_and_running_ones_stay(scene: Scene) -> None:
    for _ in range(4):
        await scene.look()
    scene.system.start(["1.0"])
    scene.broker.demands = []
    await scene.look()
    assert len(scene.system.of(JobState.QUEUED)) == 9
    await scene.look()
    assert not scene.system.of(JobState.QUEUED)
    assert [job.id for job in scene.system.of(JobState.RUNNING)] == ["1.0"]


async def test_each_users_jobs_are_for_that_user_and_charged_to_them(scene: Scene) -> None:
    scene.broker = FakeBroker(demand("alice", 3), demand("bob", 3))
    await scene.look()
    assert [(asked.order.users, asked.order.accounting) for asked in scene.system.requests] == [
        (("alice",), ("group_vmbroker", "alice")),
        (("bob",), ("group_vmbroker", "bob")),
    ]


async def test_a_job_has_room_for_its_vm_the_launcher_and_qemu(scene: Scene) -> None:
    scene.broker = FakeBroker(demand(vcpus=4, memory_mib=8_192, disk_mib=50_000, images=("sha256:ab",)))
    await scene.look()
    (asked,) = scene.system.requests
    assert asked.order.vcpus == 4
    assert asked.order.memory_mib == 8_192 + LAUNCHER_MIB + QEMU_OVERHEAD_MIB
    assert asked.order.disk_mib == 50_000
    assert asked.images == ("sha256:ab",)


async def test_one_large_job_is_asked_for_where_it_holds_many_vms(scene: Scene) -> None:
    scene.base = order(vcpus=8, memory_mib=8 * (1_024 + QEMU_OVERHEAD_MIB) + LAUNCHER_MIB, disk_mib=100_000)
    scene.broker = FakeBroker(demand(ready=8, run_ms=60_000))
    await scene.look()
    assert len(scene.system.all) == 1
    await scene.look()
    assert len(scene.system.all) == 1


async def test_what_an_item_needs_of_its_slot_is_asked_of_it(scene: Scene) -> None:
    scene.broker = FakeBroker(demand(accelerator=Accelerator.KVM, exchange=Exchange.SHARED))
    await scene.look()
    assert scene.system.requests[0].order.requirements == (
        '(VMBROKER_ACCELERATOR == "kvm") && stringListMember("shared", VMBROKER_EXCHANGES)'
    )


async def test_items_that_run_longer_than_any_job_get_none_and_the_status_says_why(scene: Scene) -> None:
    scene.broker = FakeBroker(demand(run_ms=30 * 3_600_000))
    state = await scene.look()
    assert not scene.system.all
    assert state.kinds[0].sentence == (
        "may need 15 min to boot and 30 h to run (its run limit), and jobs of 26 h leave 25 h: a shorter limits.run, "
        "or a longer --runtime, lets it start"
    )


async def test_held_jobs_are_taken_away_and_count_as_failures(scene: Scene) -> None:
    await scene.look()
    scene.system.hold(["1.0", "1.1", "1.2", "1.3"], "cannot transfer the bundle")
    state = await scene.look()
    assert not scene.system.of(JobState.HELD)
    assert (state.kinds[0].failures, state.kinds[0].failure) == (4, "held: cannot transfer the bundle")
    assert len(scene.system.of(JobState.QUEUED)) == 1, "one at a time is tried"


async def test_after_failures_one_that_does_well_lets_the_rest_follow(scene: Scene) -> None:
    await scene.look()
    scene.system.end(list(scene.system.all), status=1)
    await scene.look()
    (tried,) = scene.system.of(JobState.QUEUED)
    await scene.look()
    assert len(scene.system.of(JobState.QUEUED)) == 1
    scene.system.end([tried.id], status=0)
    await scene.look()
    assert len(scene.system.of(JobState.QUEUED)) == 4


@pytest.mark.parametrize("keeps_keys", [True, False])
async def test_jobs_that_are_shown_a_look_late_are_not_asked_for_again(scene: Scene, keeps_keys: bool) -> None:
    scene.system.shows_late, scene.system.keeps_keys = True, keeps_keys
    for _ in range(12):
        await scene.look()
    assert len(scene.system.all) == 12
    assert len(scene.system.of(JobState.QUEUED)) == 12


async def test_one_users_jobs_that_are_refused_keep_nobody_elses_away(scene: Scene) -> None:
    scene.broker = FakeBroker(demand("alice", 3, vcpus=512), demand("bob", 3))
    scene.system.refuses = ("alice",)
    for _ in range(4):
        await scene.look()
    state = await scene.look()
    assert [job.user for job in scene.system.all.values()] == ["bob"] * 3
    assert state.trouble == ""
    refused = next(kind for kind in state.kinds if kind.user == "alice")
    assert (refused.failures, refused.failure) == (5, "no node is so large")


async def test_where_ends_are_not_told_a_launcher_that_was_heard_of_has_worked_and_another_has_failed(
    scene: Scene,
) -> None:
    scene.broker = FakeBroker(demand(ready=4))
    await scene.look()
    heard, silent = list(scene.system.all)
    scene.system.start([heard, silent])
    scene.broker.hear(scene.system.all[heard].launcher, free=None)
    await scene.look()
    scene.system.all.pop(silent)
    for _ in range(LOOKS_BEFORE_LOST):
        await scene.look()
    state = await scene.look()
    assert state.kinds[0].failure == f"job {silent} is gone, and its launcher was never heard of"
    scene.system.all.pop(heard)
    for _ in range(LOOKS_BEFORE_LOST):
        await scene.look()
    state = await scene.look()
    assert (state.kinds[0].failures, state.kinds[0].failure) == (0, "")


async def test_jobs_that_were_removed_are_no_failures(scene: Scene) -> None:
    await scene.look()
    scene.system.end(list(scene.system.all))
    assert (await scene.look()).kinds[0].failures == 0


async def test_the_hard_limit_holds_over_all_users(scene: Scene) -> None:
    scene.limits = Limits(hard=5, soft=4, queued=5)
    scene.broker = FakeBroker(demand("alice", 100), demand("bob", 100))
    for _ in range(6):
        await scene.look()
    users = [job.user for job in scene.system.all.values()]
    assert sorted(users) == ["alice"] * 3 + ["bob"] * 2


async def test_the_status_shows_what_it_was_decided_by(scene: Scene) -> None:
    state = await scene.look()
    assert state.looked_s > 0
    assert state.kinds[0].size == "1 vcpus, 1,024 MiB memory, 10,240 MiB disk"
    assert state.kinds[0].sentence == "12 ready, no job for them; 12 missing, a third is 4; asks for 4"
