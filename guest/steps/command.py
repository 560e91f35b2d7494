"""The stream's `run` line made into arguments and an environment. No shell is involved."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from broker.wire.leases import ClaimAnswer
from broker.wire.states import FailureCode
from guest.steps.account import Account
from guest.steps.failure import StepFailed
from guest.steps.workspace import Workspace

_PLACEHOLDER = re.compile(r"\{(input|output|item|param\.([^{}]+))\}")
_NOT_IN_NAMES = re.compile(r"[^A-Z0-9]")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def arguments(claimed: ClaimAnswer, workspace: Workspace, input_path: Path | None) -> list[str]:
    """Split the line as a shell would, then fill in the placeholders: a value is one argument, whatever is in it.

    Braces that hold no placeholder of ours stay as they are.

    Raises:
        StepFailed: the line cannot be read, or it names what the item does not have.
    """
    try:
        words = shlex.split(claimed.run)
    except ValueError as error:
        raise StepFailed(FailureCode.PROGRAM_MISSING, f"the stream's run line cannot be read: {error}") from error
    if not words:
        raise StepFailed(FailureCode.PROGRAM_MISSING, "the stream's run line is empty")

    def value_of(found: re.Match[str]) -> str:
        match found[1]:
            case "input":
                return str(_given_input(input_path))
            case "output":
                return str(workspace.output)
            case "item":
                return claimed.item
            case _:
                return _given_param(claimed, found[2])

    return [_PLACEHOLDER.sub(value_of, word) for word in words]


def _given_input(path: Path | None) -> Path:
    if path is None:
        raise StepFailed(
            FailureCode.INPUT_UNAVAILABLE, "the stream's run line names {input}, but the item was pushed without one"
        )
    return path


def _given_param(claimed: ClaimAnswer, name: str) -> str:
    if name not in claimed.params:
        raise StepFailed(
            FailureCode.INPUT_UNAVAILABLE,
            f"the stream's run line names {{param.{name}}}, but the item has no parameter {name!r}",
        )
    return claimed.params[name]


def environment(
    claimed: ClaimAnswer, workspace: Workspace, input_path: Path | None, account: Account, proxy: str | None
) -> dict[str, str]:
    """Build the program's environment from nothing: the client's own names a Python that is none of the program's.

    `param` names are written in capitals, with `_` for every character but letters and digits.
    """
    given = {
        "PATH": SEARCH_PATH,
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell or "/bin/sh",
        "LANG": "C.UTF-8",
        "VMBROKER_OUTPUT": str(workspace.output),
        "VMBROKER_ITEM": claimed.item,
        "MACHINEFEATURES": str(workspace.machine_features),
        "JOBFEATURES": str(workspace.job_features),
    }
    if input_path is not None:
        given["VMBROKER_INPUT"] = str(input_path)
    given |= {f"VMBROKER_PARAM_{_NOT_IN_NAMES.sub('_', key.upper())}": text for key, text in claimed.params.items()}
    if proxy is not None:
        given |= _proxy_variables(proxy)
    return given


def _proxy_variables(proxy: str) -> Mapping[str, str]:
    # HTTP_PROXY in capitals is left out: programs ignore it, since a CGI's caller could set it (httpoxy).
    return {
        "http_proxy": proxy,
        "https_proxy": proxy,
        "HTTPS_PROXY": proxy,
        "no_proxy": "localhost,127.0.0.1,::1",
    }
