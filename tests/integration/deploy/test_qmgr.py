"""The scripts for `qmgr` use what each PBS documents, and make the queue that `launcher submit --pbs` names."""

import pytest

from broker.wire.jobs import BatchKind
from launcher.batch.options import queue_of
from tests.integration.deploy.files import DEPLOY
from tests.integration.deploy.qmgr import OPENPBS, TORQUE, Dialect, Directive, NotQmgr, read

SCRIPTS = {"virt-queue.qmgr": TORQUE, "virt-queue-openpbs.qmgr": OPENPBS}


def directives(name: str) -> list[Directive]:
    return read((DEPLOY / "pbs" / name).read_text(), SCRIPTS[name])


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_makes_an_open_execution_queue_of_the_name_that_jobs_ask_for(name: str) -> None:
    queue = queue_of(BatchKind.PBS, None)
    found = directives(name)
    assert Directive("create", "queue", str(queue), ()) in found
    settings = {attribute: value for each in found if each.kind == "queue" for attribute, _, value in each.assignments}
    assert settings.items() >= {"queue_type": "Execution", "enabled": "True", "started": "True"}.items()


def test_jobs_of_the_queue_go_to_nodes_that_have_it() -> None:
    torque, openpbs = directives("virt-queue.qmgr"), directives("virt-queue-openpbs.qmgr")
    assert Directive("set", "queue", "virt", (("resources_default.neednodes", "=", "virt"),)) in torque
    assert Directive("set", "node", "node01", (("properties", "+=", "virt"),)) in torque
    assert Directive("set", "queue", "virt", (("default_chunk.virt", "=", "True"),)) in openpbs
    assert Directive("set", "node", "node01", (("resources_available.virt", "=", "True"),)) in openpbs


@pytest.mark.parametrize(
    ("dialect", "line"),
    [
        (TORQUE, "make queue q"),
        (TORQUE, "set queue q enabled = True"),
        (TORQUE, "create resource virt type = boolean, flag = h"),
        (TORQUE, "create queue q\nset queue q kill_dealy = 60"),
        (TORQUE, "create queue q\nset queue q default_chunk.virt = True"),
        (TORQUE, "create queue q\nset queue q resources_default.neednoeds = virt"),
        (TORQUE, "create queue q\nset queue q resources_default = virt"),
        (TORQUE, "create queue q\nset queue q kill_delay += 60"),
        (TORQUE, "set node n resources_available.virt = True"),
        (OPENPBS, "set node n properties += virt"),
        (OPENPBS, "create queue q\nset queue q default_chunk.virt = True"),
        (OPENPBS, "create resource virt type = bool"),
        (OPENPBS, "create queue q\nset queue q enabled True"),
    ],
)
def test_what_a_pbs_does_not_know_is_refused(dialect: Dialect, line: str) -> None:
    with pytest.raises(NotQmgr):
        read(line, dialect)
