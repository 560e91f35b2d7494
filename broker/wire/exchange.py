"""The files by which a launcher and its guest exchange an item without a network; layout version 1.

The IN folder is the launcher's, the OUT folder the guest's. Source: docs/reference/guest-protocol.md, "By folders".
"""

from broker.wire.kinds import Message
from broker.wire.leases import ExitCode
from broker.wire.states import FailureCode

LAYOUT_VERSION = 1

ITEM_FILE = "item.json"
SCRIPT_FILE = "script"
INPUT_FOLDER = "input"
INPUTS_FOLDER = "inputs"

STARTED_FILE = "started"
OUTPUT_FOLDER = "output"
LOG_FILE = "log"
RESULT_FILE = "result.json"

MAX_ITEM_BYTES = 4_194_304
MAX_RESULT_BYTES = 4_194_304


class ExchangeItem(Message, frozen=True, kw_only=True):
    """`item.json` in the IN folder. `input` is a file's name below `input`, absent where the item has none.

    `inputs` are further ones: the file's name, below `inputs` and there below the input's own name.
    """

    version: int
    item: str
    run: str
    as_user: str
    output_files: list[str]
    run_ms: int
    output_mib: int
    params: dict[str, str] = {}
    input: str | None = None
    inputs: dict[str, str] = {}


class ExchangeOutput(Message, frozen=True, kw_only=True):
    """A file below `output`: its path there, and its `sha256:…`."""

    name: str
    size_bytes: int
    digest: str


class ExchangeResult(Message, frozen=True, kw_only=True):
    """`result.json` in the OUT folder, written last. `exit_code` is null where the program's end is not what failed.

    `outputs`, where it is given, lists every file below `output`, and the launcher verifies them. `code` and `sentence`
    tell a failure; a start-up script of an image's own need not give them.
    """

    exit_code: ExitCode | None
    code: FailureCode | None = None
    sentence: str = ""
    outputs: list[ExchangeOutput] | None = None
    facts: dict[str, str] = {}
