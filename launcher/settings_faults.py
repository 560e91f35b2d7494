"""What is wrong with settings, for whoever wrote them: where each fault stands, and what to write instead."""

import difflib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class Sources:
    """Where settings come from, the first that has one before the others.

    Attributes:
        given: What the command line says.
        prefix: Of variables in the environment.
        site: The site's file, and what it says.
    """

    given: Mapping[str, object]
    prefix: str
    site: Path | None
    said: Mapping[str, object]

    def of(self, name: str) -> str:
        """Return the source of a setting, as a person knows it."""
        if name in self.given:
            return "the command line"
        if f"{self.prefix}{name.upper()}" in os.environ:
            return "the environment"
        return str(self.site) if name in self.said else "the settings"


def faults_of(error: ValidationError, sources: Sources, known: Collection[str]) -> tuple[frozenset[str], list[str]]:
    """Return the names of the settings at fault, and a line for each fault."""
    names, lines = set(), []
    for fault in error.errors():
        name = str(fault["loc"][0]) if fault["loc"] else ""
        names.add(name)
        if fault["type"] == "extra_forbidden":
            lines.append(f"{sources.of(name)}: `{name}` is no setting{_nearest(name, known)}")
        else:
            where = f"{'.'.join(map(str, fault['loc']))}: " if name else ""
            lines.append(f"{sources.of(name)}: {where}{_sentence(fault)}")
    return frozenset(names - {""}), lines


def strange_variables(prefix: str, known: Collection[str]) -> list[str]:
    """Return a line for each variable in the environment that looks like a setting and is none."""
    names = sorted(name for name in os.environ if name.startswith(prefix))
    strange = [name for name in names if name.removeprefix(prefix).lower() not in known or not name.isupper()]
    variables = [f"{prefix}{name.upper()}" for name in known]
    return [f"the environment: {name} is no setting of a launcher{_nearest(name, variables)}" for name in strange]


def _nearest(name: str, known: Collection[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"; `{nearest[0]}`?" if nearest else "; `launcher run --help` and deploy/node/site.toml have them all"


def _sentence(fault: Any) -> str:
    text = str(fault["msg"]).removeprefix("Value error, ")
    return text if fault["type"] == "value_error" else f"{text[:1].lower()}{text[1:]}, and not {fault['input']!r:.80}"
