"""Programs that read events, each started as a person would, and what they got."""

import json
import os
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.nodejs import node

_SCRIPT = Path(__file__).with_name("event_source.mjs")
_PAUSE_S = 0.1
"""Between two connections of curl, while the broker is away."""

Event = dict[str, Any]


class Reader(ABC):
    """One program after the other, or one that `lasts`. `events` are in the order in which they were read."""

    lasts = False

    def __init__(self, url: str, token: str, folder: Path) -> None:
        self.url = url
        self.token = token
        self.log = folder / f"{type(self).__name__}.log"
        self.events: list[Event] = []
        self.truncated = 0
        self.runs = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = threading.Event()

    def __str__(self) -> str:
        return f"{type(self).__name__} of {self.url}"

    @abstractmethod
    def command(self) -> Sequence[str | Path]: ...

    @abstractmethod
    def take(self, rest: bytes) -> bytes:
        """Take whole messages off the beginning of what was read; return the rest."""

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def add(self, event: Event) -> None:
        if event.get("counts") or event.get("truncated"):
            self.truncated += 1
        else:
            self.events.append(event)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read for the block, starting the program again whenever it ends."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._ending.set()
            if self._process is not None:
                self._process.kill()
            thread.join()

    def _run(self) -> None:
        while not self._ending.is_set():
            self.runs += 1
            with self.log.open("ab") as log, self._start(log) as process:
                self._process = process
                if self._ending.is_set():
                    process.kill()
                assert process.stdout is not None
                rest = b""
                while chunk := os.read(process.stdout.fileno(), 65_536):
                    rest = self.take(rest + chunk)
            self._ending.wait(_PAUSE_S)

    def _start(self, log: Any) -> "subprocess.Popen[bytes]":
        words = [str(word) for word in self.command()]
        return subprocess.Popen(
            words, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        )


class _Lines(Reader):
    def take(self, rest: bytes) -> bytes:
        *lines, rest = rest.split(b"\n")
        for line in lines:
            if line:
                self.add(json.loads(line))
        return rest


class CurlMessages(Reader):
    """`curl -N`, each time with the last id; what an ended connection left of a message is dropped."""

    def command(self) -> Sequence[str | Path]:
        last = ["-H", f"Last-Event-ID: {self.last}"] if self.events else []
        return ["curl", "-sS", "-N", "-H", f"Authorization: Bearer {self.token}", *last, self.url]

    @property
    def last(self) -> str:
        return str(self.events[-1]["sse_id"])

    def take(self, rest: bytes) -> bytes:
        *blocks, rest = rest.split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(": ", 1) for line in block.decode().splitlines() if ": " in line)
            if "data" in fields:
                self.add({**json.loads(fields["data"]), "sse_id": fields.get("id")})
        return rest


class CurlLines(_Lines):
    """The same with lines; the place is in each event."""

    def command(self) -> Sequence[str | Path]:
        after = f"&after={self.events[-1].get('position', self.events[-1]['id'])}" if self.events else ""
        headers = ["-H", f"Authorization: Bearer {self.token}", "-H", "Accept: application/x-ndjson"]
        return ["curl", "-sS", "-N", *headers, f"{self.url}?follow=1{after}"]


class BrowsersEventSource(_Lines):
    """One EventSource: it is never told to resume."""

    lasts = True

    def command(self) -> Sequence[str | Path]:
        return [node(), "--no-warnings", "--experimental-eventsource", _SCRIPT, self.url]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "TOKEN": self.token}

    def add(self, event: Event) -> None:
        super().add({**json.loads(event["data"]), "sse_id": event["id"]})


class OurCommand(_Lines):
    """`broker events --follow`, of all streams; it is never told to resume."""

    lasts = True

    def command(self) -> Sequence[str | Path]:
        return [Path(sys.executable).with_name("broker"), "events", "--follow", "--output", "jsonl"]

    def environment(self) -> Mapping[str, str]:
        url = self.url.partition("/v1/")[0]
        return {**os.environ, "VMBROKER_URL": url, "BEARER_TOKEN": self.token}
