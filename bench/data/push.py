"""Bulk push to streams with targets elsewhere, against the same push to one without."""

import json
import time
from pathlib import Path

from bench.broker.calls import URL_CHARS, url_of, urls_of
from bench.broker.ground import Served, put, served
from bench.data.extent import Extent
from bench.figures import Figure, median_of, ratio_of

_LIMIT_S = 300
_TO = "https://results.example.org/survey/{input.path}?run={run}"
_HEADERS = {"X-Collection": "survey-2026", "X-Project": "alice"}
SPECS: dict[str, dict[str, object]] = {
    "plain": {},
    "targets": {"output": {"to": _TO}},
    "headers": {"output": {"to": _TO}, "access": {"results.example.org": {"headers": _HEADERS}}},
}
"""What the streams' specs have beside machine and program."""


def measure(folder: Path, extent: Extent) -> list[Figure]:
    """Push the same lines to each stream in turns, by `broker push` from its start to its end."""
    lines, one = folder / "items", folder / "one"
    lines.write_text("".join(f"{url}\n" for urls in urls_of(extent.push_items) for url in urls))
    one.write_text(f"{url_of(0)}\n")
    took: dict[str, list[float]] = {name: [] for name in SPECS}
    with served(folder / "b") as here:
        for name, more in SPECS.items():
            spec = json.dumps({"machine": "m", "run": "/bin/true", **more})
            put(here.broker, f"/v1/streams/alice/{name}", spec.encode())
            # One that does not count, for warm caches.
            _push(here, name, one)
        # The store would write its log anew when that has doubled, in the middle of somebody's turn.
        here.store.config_set("auto-aof-rewrite-percentage", 0)
        for number in range(extent.rounds):
            here.rest()
            names = list(SPECS)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                took[name].append(_push(here, name, lines))
    what = f"{extent.push_items} lines of {URL_CHARS} characters, the command's start included"
    plain, targets, headers = took.values()
    return [
        median_of("push without targets", "s", plain, reference=what),
        median_of("  with a target elsewhere", "s", targets, reference=f"{what}; {_TO}"),
        median_of("  with headers, too", "s", headers, reference=f"{what}; two headers for the target's host"),
        ratio_of("push with a target / without", targets, plain, reference=what, at_most=1.3, aim=1),
        ratio_of("push with headers / without", headers, plain, reference=what, at_most=1.3, aim=1),
    ]


def _push(here: Served, stream: str, lines: Path) -> float:
    begun_s = time.perf_counter()
    here.broker.home.ok("broker", "push", stream, "--from", str(lines), timeout_s=_LIMIT_S)
    return time.perf_counter() - begun_s
