"""Faults in what a researcher wrote: all of them are told at once, each with its remedy."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from broker.domain import limits
from broker.domain.errors import Rejected
from broker.wire.problems import ProblemCode

MAX_FAULTS = 20
"""Faults told in one answer; nobody mends five hundred lines one by one."""
_PARAM_NAME_CHARS = 64
_NO_INPUTS = frozenset({"PATH", "NAME"})
"""`{input.path}` stands for something else in a target, and `VMBROKER_INPUT_NAME` for something else in item.env."""


class Fault(NamedTuple):
    """One thing to mend: where it stands (`path` of a spec, `line` of a push), what is wrong, what to do."""

    at: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.at}: {self.reason}; {self.remedy}"


def rejected(code: ProblemCode, where: str, faults: Sequence[Fault]) -> Rejected:
    """Return the refusal that tells of all faults; there must be one."""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    refusals = [{where: fault.at, "reason": fault.reason, "remedy": fault.remedy} for fault in faults[:MAX_FAULTS]]
    return Rejected(code, f"{where} {faults[0]}{more}", refusals=refusals)


def param_faults(at: str, params: Mapping[str, str]) -> Iterator[Fault]:
    """Check the parameters that a program will be given, those of the stream and of the item together."""
    size = sum(len(name.encode()) + len(value.encode()) for name, value in params.items())
    if size > limits.default("params_bytes"):
        yield Fault(at, f"the parameters take {size} bytes", "use at most 65536, or put them into a file")
    variables: dict[str, str] = {}
    for name, value in params.items():
        if not is_param_name(name):
            yield Fault(at, f"{name[:70]!r} is no parameter's name", "use letters, digits and '_'")
        if "\0" in value:
            yield Fault(at, f"the parameter {name!r} holds a NUL", "remove it: no environment variable can carry it")
        other = variables.setdefault(variable_of(name), name)
        if other != name:
            reason = f"the parameters {other!r} and {name!r} would both be {variable_of(name)}"
            yield Fault(at, reason, "rename one of them")


def input_name_faults(at: str, inputs: Mapping[str, str]) -> Iterator[Fault]:
    """Check how many further inputs there are, and their names, those of the stream and of the item together."""
    if len(inputs) > limits.default("inputs"):
        yield Fault(at, f"{len(inputs)} further inputs are too many", f"give at most {limits.default('inputs')}")
    variables: dict[str, str] = {}
    for name in inputs:
        if not is_param_name(name) or name.upper() in _NO_INPUTS:
            yield Fault(at, f"{name[:70]!r} is no input's name", "use letters, digits and '_', not 'path' or 'name'")
        other = variables.setdefault(name.upper(), name)
        if other != name:
            reason = f"the inputs {other!r} and {name!r} would both be VMBROKER_INPUT_{name.upper()}"
            yield Fault(at, reason, "rename one of them")


def is_param_name(name: str) -> bool:
    """Tell whether a text may name a parameter."""
    is_word = name.isascii() and name.replace("_", "a").isalnum() and not name[0].isdigit()
    return is_word and len(name) <= _PARAM_NAME_CHARS


def variable_of(name: str) -> str:
    """Return the environment variable in which a program finds a parameter."""
    return f"VMBROKER_PARAM_{name.upper()}"
