"""How the client ends: its exit statuses, also told to the launcher by the last line on the port."""

from enum import IntEnum


class Exit(IntEnum):
    """Stable: a number keeps its meaning for ever. Source: docs/reference/guest-exit-codes.md."""

    COMPLETED = 0
    ITEM_FAILED = 10
    GIVEN_BACK = 11
    LEASE_LOST = 12
    STOPPED = 13
    NO_PORT = 20
    NO_WELCOME = 21
    CLAIM_REFUSED = 22
    BROKER_AWAY = 23
    RESULT_REFUSED = 24
    NO_SHARE = 25
    USAGE = 64
    INTERNAL = 70


MEANINGS: dict[Exit, str] = {
    Exit.COMPLETED: "the item was completed",
    Exit.ITEM_FAILED: "the item failed, and the broker knows why",
    Exit.GIVEN_BACK: "the item was given back: its program asked for it, or the vm had to end",
    Exit.LEASE_LOST: "the item was cancelled or is no longer this vm's",
    Exit.STOPPED: "the client was told to stop by a signal",
    Exit.NO_PORT: "there is no port to the launcher",
    Exit.NO_WELCOME: "the launcher did not answer on the port",
    Exit.CLAIM_REFUSED: "the broker refused the ticket",
    Exit.BROKER_AWAY: "the broker could not be reached",
    Exit.RESULT_REFUSED: "the broker refused the result",
    Exit.NO_SHARE: "the shared folder could not be used",
    Exit.USAGE: "the client was called wrongly",
    Exit.INTERNAL: "the client failed; its traceback is on the console",
}
