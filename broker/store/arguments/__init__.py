"""What each script is passed beside its keys, one type a script, in the order of its header's ARGV."""

import re
from typing import Any, get_args

from broker.store.arguments.callbacks import BeginCallback, NoteCallback, ReplayCallback, StopCallback, TakeCallbacks
from broker.store.arguments.definitions import (
    DeleteMachine,
    ExpectImage,
    FreeFile,
    GrantImage,
    PutMachine,
    PutStream,
    RecountFiles,
    ReleaseImage,
    ReserveFile,
    ShareMachine,
)
from broker.store.arguments.items import (
    Cancel,
    Claim,
    Complete,
    Dispatch,
    End,
    Expire,
    Extend,
    ExtendDispatch,
    Fail,
    Forget,
    GiveBack,
    Hold,
    Phase,
    Promote,
    Push,
    Release,
)
from broker.store.arguments.presence import (
    BeginLife,
    Hear,
    HearMany,
    Look,
    RemoveJobs,
    RemoveLauncher,
    ReportJobs,
    ReportLauncher,
    Tick,
)
from broker.store.arguments.secrets import DeleteSecret, GiveSecrets, PutSecret
from broker.store.arguments.streams import (
    CancelMany,
    EndBulk,
    HoldMany,
    Pause,
    PurgeMany,
    ReleaseMany,
    RemoveStream,
    Resume,
    StartBulk,
    TrimReady,
)
from broker.store.arguments.tokens import KeepToken, LogIn, RenewLogin, Revoke

__all__ = [
    "SCRIPTS",
    "Arguments",
    "BeginCallback",
    "BeginLife",
    "Cancel",
    "CancelMany",
    "Claim",
    "Complete",
    "DeleteMachine",
    "DeleteSecret",
    "Dispatch",
    "End",
    "EndBulk",
    "ExpectImage",
    "Expire",
    "Extend",
    "ExtendDispatch",
    "Fail",
    "Forget",
    "FreeFile",
    "GiveBack",
    "GiveSecrets",
    "GrantImage",
    "Hear",
    "HearMany",
    "Hold",
    "HoldMany",
    "KeepToken",
    "LogIn",
    "Look",
    "NoteCallback",
    "Pause",
    "Phase",
    "Promote",
    "PurgeMany",
    "Push",
    "PutMachine",
    "PutSecret",
    "PutStream",
    "RecountFiles",
    "Release",
    "ReleaseImage",
    "ReleaseMany",
    "RemoveJobs",
    "RemoveLauncher",
    "RemoveStream",
    "RenewLogin",
    "ReplayCallback",
    "ReportJobs",
    "ReportLauncher",
    "ReserveFile",
    "Resume",
    "Revoke",
    "ShareMachine",
    "StartBulk",
    "StopCallback",
    "TakeCallbacks",
    "Tick",
    "TrimReady",
    "flatten",
]

Arguments = (
    BeginLife
    | ExpectImage
    | GrantImage
    | ReleaseImage
    | PutMachine
    | DeleteMachine
    | ShareMachine
    | PutStream
    | ReserveFile
    | FreeFile
    | RecountFiles
    | PutSecret
    | DeleteSecret
    | GiveSecrets
    | Push
    | Promote
    | Hear
    | HearMany
    | Look
    | ReportLauncher
    | RemoveLauncher
    | ReportJobs
    | RemoveJobs
    | Dispatch
    | Phase
    | ExtendDispatch
    | Claim
    | Extend
    | Complete
    | Cancel
    | Hold
    | Release
    | Pause
    | Resume
    | StartBulk
    | CancelMany
    | HoldMany
    | ReleaseMany
    | EndBulk
    | TrimReady
    | PurgeMany
    | RemoveStream
    | Fail
    | GiveBack
    | Expire
    | End
    | Forget
    | Tick
    | LogIn
    | RenewLogin
    | KeepToken
    | Revoke
    | TakeCallbacks
    | BeginCallback
    | NoteCallback
    | ReplayCallback
    | StopCallback
)

SCRIPTS: dict[type[Arguments], str] = {
    kind: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower() for kind in get_args(Arguments)
}
"""The script of each type is named like it: `ExpectImage` is what `expect_image.lua` is passed."""


def flatten(arguments: Arguments) -> list[str | int]:
    """Return the arguments as the script is passed them: flags as 0 or 1, the rest unfolded at the end."""
    flat: list[Any] = [int(value) if value is True or value is False else value for value in arguments]
    if isinstance(flat[-1], tuple):
        flat.extend(flat.pop())
    return flat
