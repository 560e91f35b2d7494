"""The other side of `condor_worker`: calls with deadlines, a new process for each that had to be killed."""

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
from typing import Any, Final

from launcher.batch.errors import Away, Refused
from launcher.interpreter import own_python

START_S: Final = 20.0
"""Of its start, before the first call: an interpreter and the bindings, on a busy machine."""
MAX_EVENTS: Final = 20_000
"""Of one answer; where there are so many, there may be more."""
_READY: Final = b"ready\n"
_LINE_BYTES: Final = 256 << 20
_START: Final = (
    "import sys, json; sys.path[:0] = json.loads(sys.argv[1]); from launcher.batch.condor_worker import main; main()"
)


def check_bindings() -> None:
    """Say what to install where HTCondor's bindings are missing.

    Raises:
        Refused: they are.
    """
    if importlib.util.find_spec("htcondor2") is None:
        raise Refused(
            "HTCondor's Python bindings are not installed here: pip install 'vmbroker[condor]', or take a bundle made "
            "by `launcher bundle --condor`"
        )


class CondorProcess:
    """Runs one worker, started when it is first needed. Calls come one after the other.

    Attributes:
        starts: how many workers there were; whoever keeps what one told it begins anew with the next.
    """

    def __init__(self) -> None:
        self.starts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def call(self, name: str, limit_s: float, **arguments: Any) -> Any:
        """Call the worker.

        Raises:
            Refused: HTCondor refuses it.
            Away: no daemon answers, or not within `limit_s`; whether the call took effect is not known then.
        """
        async with self._turn:
            try:
                answer = await self._exchanged(name, limit_s, arguments)
            except BaseException:
                # An answer that comes late would be taken for that of the next call.
                await self._kill()
                raise
        if "fault" not in answer:
            return answer["value"]
        sentence = f"HTCondor does not do it: {answer['text']}"
        if answer["fault"] == "away":
            raise Away(_with_hint(answer["text"]))
        raise Refused(sentence)

    async def aclose(self) -> None:
        """End the worker."""
        async with self._turn:
            await self._kill()

    async def _exchanged(self, name: str, limit_s: float, arguments: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        if process is None or process.returncode is not None:
            process = await self._start()
        assert process.stdin is not None, "it was asked for"
        assert process.stdout is not None, "it was asked for"
        try:
            async with asyncio.timeout(limit_s):
                process.stdin.write(json.dumps({"call": name, "with": arguments}).encode() + b"\n")
                await process.stdin.drain()
                line = await process.stdout.readline()
        except TimeoutError as error:
            raise Away(
                f"HTCondor gave no answer to `{name}` within {limit_s:g} s: its daemon hangs, or is busy"
            ) from error
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Away(f"the process that speaks with HTCondor ended during `{name}`") from error
        if not line.endswith(b"\n"):
            raise Away(f"the process that speaks with HTCondor ended during `{name}`")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _start(self) -> asyncio.subprocess.Process:
        self.starts += 1
        self._process = await asyncio.create_subprocess_exec(
            *(*own_python(), "-I", "-S", "-B", "-c", _START, json.dumps(sys.path), str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_LINE_BYTES,
            # Ctrl-C at the terminal is for the command, which ends the worker.
            process_group=0,
        )
        assert self._process.stdout is not None, "it was asked for"
        try:
            async with asyncio.timeout(START_S):
                line = await self._process.stdout.readline()
        except TimeoutError as error:
            raise Away(f"the process that speaks with HTCondor did not start within {START_S:g} s") from error
        if line != _READY:
            raise Away("the process that speaks with HTCondor did not start: are its Python bindings whole?")
        return self._process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _with_hint(text: str) -> str:
    if "unable to locate" in text.lower():
        return (
            f"no HTCondor is found from here ({text}): run this on an access point, or set CONDOR_CONFIG to its "
            "configuration"
        )
    return f"HTCondor does not answer: {text}"
