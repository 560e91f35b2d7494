"""The stream's `run` line made into arguments and an environment. No shell is involved."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from broker.wire.states import FailureCode
from guest.steps.account import Account
from guest.steps.failure import StepFailed
from guest.steps.work import Work
from guest.steps.workspace import Workspace

_PLACEHOLDER = re.compile(r"\{(input|output|item|script|(param|input)\.([^{}]+))\}")
_NOT_IN_NAMES = re.compile(r"[^A-Z0-9]")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Inputs(NamedTuple):
    """Where the item's input is, None without one, and its further ones by name."""

    own: Path | None = None
    further: Mapping[str, Path] = MappingProxyType({})


def arguments(work: Work, workspace: Workspace, inputs: Inputs) -> list[str]:
    """Split the line as a shell would, then fill in the placeholders: a value is one argument, whatever is in it.

    Braces that hold no placeholder of ours stay as they are. An empty line with a script runs that, given the input,
    where there is one, and the output folder.

    Raises:
        StepFailed: the line cannot be read, or it names what the item does not have.
    """
    try:
        words = shlex.split(work.run)
    except ValueError as error:
        raise StepFailed(FailureCode.PROGRAM_MISSING, f"the stream's run line cannot be read: {error}") from error
    if not words and not work.script:
        raise StepFailed(FailureCode.PROGRAM_MISSING, "the stream's run line is empty")
    if not words:
        words = ["{script}", "{input}", "{output}"] if inputs.own is not None else ["{script}", "{output}"]

    def value_of(found: re.Match[str]) -> str:
        match found[1]:
            case "input":
                return str(_given_input(inputs.own))
            case "output":
                return str(workspace.output)
            case "item":
                return work.item
            case "script":
                return str(_given_script(work, workspace))
            case _:
                return _given_param(work, found[3]) if found[2] == "param" else _given_further(inputs, found[3])

    return [_PLACEHOLDER.sub(value_of, word) for word in words]


def _given_input(path: Path | None) -> Path:
    if path is None:
        raise StepFailed(
            FailureCode.INPUT_UNAVAILABLE, "the stream's run line names {input}, but the item was pushed without one"
        )
    return path


def _given_further(inputs: Inputs, name: str) -> str:
    if name not in inputs.further:
        raise StepFailed(
            FailureCode.INPUT_UNAVAILABLE,
            f"the stream's run line names {{input.{name}}}, but the item has no input {name!r}",
        )
    return str(inputs.further[name])


def _given_script(work: Work, workspace: Workspace) -> Path:
    if not work.script:
        raise StepFailed(
            FailureCode.PROGRAM_MISSING, "the stream's run line names {script}, but the stream sends none along"
        )
    return workspace.script


def _given_param(work: Work, name: str) -> str:
    if name not in work.params:
        raise StepFailed(
            FailureCode.INPUT_UNAVAILABLE,
            f"the stream's run line names {{param.{name}}}, but the item has no parameter {name!r}",
        )
    return work.params[name]


def environment(
    work: Work, workspace: Workspace, inputs: Inputs, account: Account, proxy: str | None
) -> dict[str, str]:
    """Build the program's environment from nothing: the client's own names a Python that is none of the program's.

    Names of parameters and inputs are written in capitals, with `_` for every character but letters and digits. The
    broker takes no input called `name`, whose variable is another thing in item.env.
    """
    given = {
        **base_environment(account, proxy),
        "VMBROKER_OUTPUT": str(workspace.output),
        "VMBROKER_ITEM": work.item,
        "MACHINEFEATURES": str(workspace.machine_features),
        "JOBFEATURES": str(workspace.job_features),
    }
    if work.script:
        given["VMBROKER_SCRIPT"] = str(workspace.script)
    if inputs.own is not None:
        given["VMBROKER_INPUT"] = str(inputs.own)
    given |= {f"VMBROKER_INPUT_{_in_capitals(name)}": str(path) for name, path in inputs.further.items()}
    given |= {f"VMBROKER_PARAM_{_in_capitals(key)}": text for key, text in work.params.items()}
    return given


def base_environment(account: Account, proxy: str | None) -> dict[str, str]:
    """Return what everything has that is run for an item: who it is, where programs are, and the way out."""
    given = {
        "PATH": SEARCH_PATH,
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell or "/bin/sh",
        "LANG": "C.UTF-8",
    }
    return given if proxy is None else {**given, **_proxy_variables(proxy)}


def _in_capitals(name: str) -> str:
    return _NOT_IN_NAMES.sub("_", name.upper())


def _proxy_variables(proxy: str) -> Mapping[str, str]:
    lower = {"http_proxy": proxy, "https_proxy": proxy, "no_proxy": "localhost,127.0.0.1,::1"}
    return lower | {name.upper(): value for name, value in lower.items()}
