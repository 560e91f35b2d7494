"""What HTCondor tells a job: the ClassAds of its slot and of itself, as files that two variables name.

Of a glidein's slot the end is `GLIDEIN_ToDie`, when the pilot kills what runs. `GLIDEIN_ToRetire`, after which it
starts nothing more, is no end for what has started. `MaxJobRetirementTime` is a promise, no end either.

Source: HTCondor manual, "Environment and services for a running job", "Machine ClassAd Attributes", "Job ClassAd
Attributes"; the glideinWMS factory's `condor_startup.sh`.
"""

import re
from collections.abc import Generator
from typing import Final

from launcher.slot.words import KIB, Fact, Fault, Quantity, Surroundings, Word, Words, words_of

_ATTRIBUTE: Final = re.compile(r"^\s*([A-Za-z_]\w*)\s*=\s*(.*?)\s*$")
_START: Final = "JobCurrentStartDate"
_LIMITS: Final = (
    ("AllowedJobDuration", (_START,)),
    ("AllowedExecuteDuration", (_START, "JobCurrentStartExecutingDate")),
)
"""With what they count from, the latest: the ad of a job that runs again may have its former run's executing date."""

Ad = dict[str, str]


def htcondor(around: Surroundings) -> Words:
    """Yield the slot's size and end."""
    machine = yield from _read(around, "_CONDOR_MACHINE_AD")
    yield from words_of(Quantity.VCPUS, machine.get("cpus"), "HTCondor's machine ad, Cpus")
    yield from words_of(Quantity.MEMORY_MIB, machine.get("memory"), "HTCondor's machine ad, Memory")
    yield from words_of(Quantity.DISK_MIB, machine.get("disk"), "HTCondor's machine ad, Disk", per=KIB)
    yield from words_of(Quantity.END_S, machine.get("glidein_todie"), "HTCondor's machine ad, GLIDEIN_ToDie")
    job = yield from _read(around, "_CONDOR_JOB_AD")
    for limit, starts in _LIMITS:
        yield from _end(job, limit, starts)


def _read(around: Surroundings, variable: str) -> Generator[Fault, None, Ad]:
    path = around.environ.get(variable)
    if not path:
        return {}
    try:
        text = around.read(path)
    except OSError as error:
        yield Fault(f"{variable} names {path}, which cannot be read: {error.strerror}")
        return {}
    if text is None:
        yield Fault(f"{variable} names {path}, which is not there")
        return {}
    ad = parse_ad(text)
    if not ad:
        yield Fault(f"{variable} names {path}, which has no line of the form Attribute = value")
    return ad


def parse_ad(text: str) -> Ad:
    """Return the attributes of a ClassAd in the form of one a line, by their names in small letters.

    Names do not differ by case. Expressions stay as they are: who wants a number finds out that it is none.
    """
    found = (_ATTRIBUTE.match(line) for line in text.splitlines())
    return {match[1].lower(): match[2].strip('"') for match in found if match}


def _end(job: Ad, limit: str, starts: tuple[str, ...]) -> Words:
    allowed = job.get(limit.lower())
    if allowed is None or allowed.lower() == "undefined" or _START.lower() not in job:
        return
    limits = list(words_of(Quantity.END_S, allowed, f"HTCondor's job ad, {limit}"))
    begins = [
        word
        for start in starts
        for word in words_of(Quantity.END_S, job.get(start.lower()), f"HTCondor's job ad, {start}")
    ]
    yield from (word for word in (*limits, *begins) if isinstance(word, Fault))
    began = max((word.fact for word in begins if isinstance(word, Word)), default=None)
    for told in limits:
        if isinstance(told, Word) and began is not None:
            yield Word(Quantity.END_S, Fact(began.value + told.fact.value, f"{told.fact.source} from {began.source}"))
