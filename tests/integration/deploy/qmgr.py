"""A strict reader of scripts for PBS's `qmgr`: what it does not know is an error.

Only what our scripts use of the language: `create` and `set`, of queues, nodes and resources, one object a line.
Source: qmgr(1B) of Torque, qmgr(8B) of OpenPBS, "Directive Syntax".
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

_DIRECTIVE = re.compile(r"(?P<verb>\w+) (?P<kind>\w+) (?P<name>[\w.-]+)(?: (?P<rest>\S.*))?")
_ASSIGNMENT = re.compile(r"(?P<attribute>[\w.]+) (?P<operator>=|\+=|-=) (?P<value>[\w:.]+)")


class NotQmgr(ValueError):
    """A line that `qmgr` of this PBS does not take; the text says why."""


@dataclass(frozen=True)
class Dialect:
    """What one PBS documents.

    Attributes:
        source: Where.
        queue, node: Attributes that an administrator may set; one with resources is written `name.RESOURCE`.
        of_resources: Those of them that have resources.
        resources: Resources that are built in.
        has_resource_objects: Whether `create resource` makes more.
    """

    source: str
    queue: Collection[str]
    node: Collection[str]
    of_resources: Collection[str]
    resources: Collection[str]
    has_resource_objects: bool


@dataclass(frozen=True)
class Directive:
    verb: str
    kind: str
    name: str
    assignments: tuple[tuple[str, str, str], ...]


def read(text: str, dialect: Dialect) -> list[Directive]:
    """Return a script's directives.

    Raises:
        NotQmgr: a line is not of the language, or sets what the dialect has not.
    """
    made = {"resource": set(dialect.resources), "queue": set[str](), "node": set[str]()}
    directives = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            directive = _parse(line)
            _check(directive, dialect, made)
            directives.append(directive)
    return directives


def _parse(line: str) -> Directive:
    found = _DIRECTIVE.fullmatch(line)
    if found is None:
        raise NotQmgr(f"no directive: {line!r}")
    return Directive(found["verb"], found["kind"], found["name"], tuple(_assignments(found["rest"] or "")))


def _assignments(rest: str) -> Iterator[tuple[str, str, str]]:
    for part in filter(None, re.split(r", *", rest)):
        found = _ASSIGNMENT.fullmatch(part)
        if found is None:
            raise NotQmgr(f"no assignment: {part!r}")
        yield found["attribute"], found["operator"], found["value"]


def _check(directive: Directive, dialect: Dialect, made: Mapping[str, set[str]]) -> None:
    match directive.verb, directive.kind:
        case "create", "queue" if not directive.assignments:
            made["queue"].add(directive.name)
        case "create", "resource" if dialect.has_resource_objects:
            _check_resource(directive)
            made["resource"].add(directive.name)
        case "set", "queue" if directive.name in made["queue"]:
            _check_attributes(directive, dialect.queue, dialect, made["resource"])
        case "set", "node":
            _check_attributes(directive, dialect.node, dialect, made["resource"])
        case _:
            raise NotQmgr(f"unknown, or of an object that is not there: {directive}")


def _check_resource(directive: Directive) -> None:
    for attribute, operator, value in directive.assignments:
        known = {"type": ("boolean", "long", "string", "size", "float", "string_array"), "flag": ("h", "n", "nh", "f")}
        if operator != "=" or value not in known.get(attribute, ()):
            raise NotQmgr(f"a resource has no {attribute} {operator} {value}")


def _check_attributes(
    directive: Directive, known: Collection[str], dialect: Dialect, resources: Collection[str]
) -> None:
    if len(directive.assignments) != 1:
        raise NotQmgr(f"not one assignment: {directive}")
    for attribute, operator, _ in directive.assignments:
        name, dot, resource = attribute.partition(".")
        if name not in known or (name in dialect.of_resources) != bool(dot) or (dot and resource not in resources):
            raise NotQmgr(f"{dialect.source} has no {attribute} of a {directive.kind}")
        if operator != "=" and attribute not in {"properties", "acl_users", "acl_groups", "acl_hosts"}:
            raise NotQmgr(f"{attribute} is no list, so that it has no {operator}")


TORQUE = Dialect(
    source="Torque's pbs_queue_attributes(7B), qmgr(1B), pbs_resources(7B); its Administrator Guide, 'Node attributes'",
    queue=frozenset(
        [
            "acl_group_enable",
            "acl_group_sloppy",
            "acl_groups",
            "acl_host_enable",
            "acl_hosts",
            "acl_logic_or",
            "acl_user_enable",
            "acl_users",
            "enabled",
            "from_route_only",
            "max_queuable",
            "max_user_queuable",
            "max_running",
            "Priority",
            "queue_type",
            "resources_max",
            "resources_min",
            "resources_default",
            "started",
            "checkpoint_min",
            "resources_available",
            "keep_completed",
            "kill_delay",
            "max_user_run",
            "max_group_run",
            "route_destinations",
            "alt_router",
            "route_held_jobs",
            "route_waiting_jobs",
            "route_retry_time",
            "route_lifetime",
        ]
    ),
    node=frozenset(["np", "properties", "state", "ntype", "note"]),
    of_resources=frozenset(["resources_max", "resources_min", "resources_default", "resources_available"]),
    resources=frozenset(
        [
            "arch",
            "cput",
            "file",
            "host",
            "mem",
            "ncpus",
            "neednodes",
            "nice",
            "nodect",
            "nodes",
            "opsys",
            "other",
            "pcput",
            "pmem",
            "pvmem",
            "size",
            "vmem",
            "walltime",
        ]
    ),
    has_resource_objects=False,
)
OPENPBS = Dialect(
    source="OpenPBS's pbs_queue_attributes(7B), pbs_node_attributes(7B), pbs_resources(7B) and qmgr(8B)",
    queue=frozenset(
        [
            "acl_group_enable",
            "acl_groups",
            "acl_host_enable",
            "acl_hosts",
            "acl_user_enable",
            "acl_users",
            "backfill_depth",
            "checkpoint_min",
            "default_chunk",
            "enabled",
            "from_route_only",
            "kill_delay",
            "max_array_size",
            "max_queued",
            "max_queued_res",
            "max_run",
            "max_run_res",
            "max_run_res_soft",
            "max_run_soft",
            "node_group_key",
            "partition",
            "Priority",
            "queued_jobs_threshold",
            "queued_jobs_threshold_res",
            "queue_type",
            "require_cred",
            "require_cred_enable",
            "resources_available",
            "resources_default",
            "resources_max",
            "resources_min",
            "route_destinations",
            "route_held_jobs",
            "route_lifetime",
            "route_retry_time",
            "route_waiting_jobs",
            "started",
        ]
    ),
    node=frozenset(
        [
            "comment",
            "current_aoe",
            "Mom",
            "no_multinode_jobs",
            "partition",
            "Port",
            "Priority",
            "queue",
            "resources_available",
            "state",
        ]
    ),
    of_resources=frozenset(
        [
            "default_chunk",
            "resources_available",
            "resources_default",
            "resources_max",
            "resources_min",
            "max_queued_res",
            "max_run_res",
        ]
    ),
    resources=frozenset(
        [
            "arch",
            "cput",
            "file",
            "host",
            "mem",
            "mpiprocs",
            "ncpus",
            "nice",
            "nodect",
            "ompthreads",
            "pcput",
            "pmem",
            "pvmem",
            "software",
            "vmem",
            "walltime",
        ]
    ),
    has_resource_objects=True,
)
