"""Elements and attributes of GlideinWMS's XML that our fragments may use: a tree of names, and what each must have.

Source: for an entry, creation/lib/factory_defaults.xml and doc/factory/configuration.html; for a group,
creation/lib/cvWParams.py (`group_defaults`), doc/frontend/configuration.html and build/packaging/rpm/frontend.xml, all
of the repository glideinWMS/glideinwms.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element


@dataclass(frozen=True)
class Known:
    """An element: attributes that it must have, those that it may have besides, and what may be in it."""

    must: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    inside: Mapping[str, "Known"] = field(default_factory=dict)


def _known(must: str = "", may: str = "", **inside: Known) -> Known:
    return Known(frozenset(must.split()), frozenset([*may.split(), "comment"]), inside)


def faults(element: Element, known: Known, path: str = "") -> Iterator[str]:
    """Yield what of an element is not known, or is missing."""
    where = f"{path}/{element.tag}"
    yield from (f"{where} has no attribute {name}" for name in set(element.keys()) - known.must - known.may)
    yield from (f"{where} lacks the attribute {name}" for name in known.must - set(element.keys()))
    if (element.text or "").strip():
        yield f"{where} has text in it"
    for child in element:
        if child.tag in known.inside:
            yield from faults(child, known.inside[child.tag], where)
        else:
            yield f"{where} has no element {child.tag}"


_FILE = "relfname executable period prefix untar wrapper const after_entry"
_UNTAR = _known("cond_attr", "dir absdir_outattr")
_FILES = _known(file=_known("absfname", _FILE, untar_options=_UNTAR))
_TYPED = _known(match_attr=_known("name type"))
_CREDENTIAL = _known(
    "absfname type trust_domain security_class",
    "keyabsfname pilotabsfname creation_script update_frequency remote_username "
    "vm_id vm_type pool_idx_len pool_idx_list project_id",
)
GROUP = _known(
    "name enabled",
    config=_known(
        idle_glideins_per_entry=_known("max reserve"),
        idle_glideins_lifetime=_known("max"),
        idle_vms_per_entry=_known("max curb"),
        idle_vms_total=_known("max curb"),
        running_glideins_per_entry=_known("max relative_to_queue", "min"),
        running_glideins_total=_known("max curb"),
        processing_workers=_known("matchmakers"),
        glideins_removal=_known("type", "wait requests_tracking margin"),
    ),
    match=_known(
        "match_expr start_expr",
        "policy_file",
        factory=_known(
            "query_expr",
            match_attrs=_TYPED,
            collectors=_known(collector=_known("node DN", "factory_identity my_identity")),
        ),
        job=_known("query_expr", match_attrs=_TYPED, schedds=_known(schedd=_known("fullname DN"))),
    ),
    security=_known("", "proxy_selection_plugin security_name", credentials=_known(credential=_CREDENTIAL)),
    attrs=_known(attr=_known("name value glidein_publish job_publish parameter type")),
    files=_FILES,
)
_LIMITS = "glideins held idle"
ENTRY = _known(
    "name gatekeeper gridtype work_dir auth_method trust_domain",
    "enabled verbosity rsl proxy_url schedd_name vm_id vm_type bosco_dir",
    config=_known(
        max_jobs=_known(
            per_entry=_known(_LIMITS),
            default_per_frontend=_known(_LIMITS),
            per_frontends=_known(per_frontend=_known(f"name {_LIMITS}")),
        ),
        stale_age=_known("", "idle running unclaimed"),
        release=_known("max_per_cycle sleep"),
        remove=_known("max_per_cycle sleep"),
        restrictions=_known("require_voms_proxy"),
        submit=_known(
            "cluster_size max_per_cycle sleep slots_layout",
            submit_attrs=_known(submit_attr=_known("name value")),
        ),
    ),
    allow_frontends=_known(allow_frontend=_known("name security_class")),
    attrs=_known(attr=_known("name value const glidein_publish job_publish parameter publish type")),
    files=_FILES,
    infosys_refs=_known(infosys_ref=_known("ref server type")),
    monitorgroups=_known(monitorgroup=_known("group_name")),
)
_BOOLEANS = "enabled const executable untar wrapper glidein_publish job_publish parameter publish"
VALUES = {
    "type": {"string", "int", "expr", "real", "bool", "Expr"},
    "gridtype": {"condor", "batch slurm", "batch pbs", "batch condor", "batch lsf", "batch sge", "ec2", "gce"},
    "slots_layout": {"fixed", "partitionable"},
    "verbosity": {"std", "fast", "nodebug"},
    **{name: {"True", "False"} for name in _BOOLEANS.split()},
}
