"""A screen in memory: an X server without a display, a window manager, a session bus, and hands to use them.

Source: Xvfb(1), openbox(1), dbus-run-session(1), xdotool(1), import(1) of ImageMagick.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SETUP = "deploy/setup/system-packages pictures"
SIZE = "1100x840x24"
START_S = 60.0
_LOOK_S = 0.3
_SETTLE_S = 1.2
"""How long a window takes to draw what a key or a click changed; there is no event that says so."""
_STILL_S = 12.0
_BLINKING_PIXELS = 24
"""A text cursor's, in the small picture that is compared."""
_SHADES = 40
_MARGIN = 1
_COLOURS = 64
_STOP_S = 20


class PictureFailed(Exception):
    """The pictures cannot be taken; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window by its X identifier, with its place on the screen."""

    id: str
    x: int
    y: int
    width: int
    height: int


class Screen:
    """What is on the screen, and what a person would do to it."""

    def __init__(self, environment: dict[str, str], pictures: Path) -> None:
        self._environment = environment
        self._pictures = pictures

    @contextmanager
    def showing(self, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a program on the screen while the block runs."""
        with running(command, self._environment) as process:
            yield process

    def window(self, title: str, timeout_s: float = START_S) -> Window:
        """Wait for a window whose title matches, bring it to the front, and return it.

        Raises:
            PictureFailed: it did not come.
        """
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            found = self._xdotool("search", "--onlyvisible", "--name", title, check=False).split()
            if found:
                self._xdotool("windowactivate", "--sync", found[-1])
                time.sleep(_SETTLE_S)
                return self._placed(found[-1])
            time.sleep(_LOOK_S)
        raise PictureFailed(f"no window {title!r} came within {timeout_s:.0f} s")

    def click(self, window: Window, x: int, y: int) -> None:
        """Click at a place of the window; negative numbers count from its right or lower edge."""
        at_x, at_y = x % window.width if x < 0 else x, y % window.height if y < 0 else y
        self._xdotool("mousemove", str(window.x + at_x), str(window.y + at_y), "click", "1")
        time.sleep(_SETTLE_S)

    def press(self, *keys: str) -> None:
        """Press keys, each by its X name, alone or with others as in `ctrl+a`."""
        self._xdotool("key", "--delay", "60", *keys)
        time.sleep(_SETTLE_S)

    def type(self, text: str) -> None:
        """Write a text into whatever has the focus."""
        self._xdotool("type", "--delay", "25", text)
        time.sleep(_SETTLE_S)

    def enter(self, line: str) -> None:
        """Write a line and end it."""
        self.type(line)
        self.press("Return")

    def wait_still(self, window: Window, timeout_s: float) -> None:
        """Wait until the window shows the same for a while: a system that has booted, a command that has ended.

        Raises:
            PictureFailed: it went on changing.
        """
        deadline_s = time.monotonic() + timeout_s
        seen, since_s = b"", time.monotonic()
        while time.monotonic() - since_s < _STILL_S:
            if time.monotonic() > deadline_s:
                raise PictureFailed(f"the window still changed after {timeout_s:.0f} s")
            now = self._pixels(window)
            if _differing(now, seen) > _BLINKING_PIXELS:
                seen, since_s = now, time.monotonic()
            time.sleep(_LOOK_S)

    def take(self, name: str, window: Window) -> None:
        """Take a picture of the window with its frame."""
        frame = 19
        crop = (
            f"{window.width + 2 * _MARGIN}x{window.height + frame + 2 * _MARGIN}"
            f"+{max(0, window.x - _MARGIN)}+{max(0, window.y - frame - _MARGIN)}"
        )
        target = self._pictures / f"{name}.png"
        # Off the window, so that neither pointer nor its hint is in the picture.
        self._xdotool("mousemove", "2", "2")
        time.sleep(_SETTLE_S)
        options = (
            "-crop",
            crop,
            "+repage",
            "-strip",
            "+dither",
            "-colors",
            str(_COLOURS),
            "-define",
            "png:compression-level=9",
        )
        _call(("import", "-window", "root", *options, f"PNG8:{target}"), self._environment)

    def _pixels(self, window: Window) -> bytes:
        command = ("import", "-window", window.id, "-colorspace", "Gray", "-resize", "25%", "-depth", "8", "gray:-")
        return subprocess.run(command, env=self._environment, capture_output=True, timeout=60, check=False).stdout

    def _placed(self, window: str) -> Window:
        # Not xdotool's own answer, which counts the frame twice under some window managers.
        said = _call(("xwininfo", "-id", window), self._environment)
        places = ("Absolute upper-left X", "Absolute upper-left Y", "Width", "Height")
        found = [re.search(rf"{place}:\s+(-?\d+)", said) for place in places]
        return Window(window, *(int(match[1]) for match in found if match))

    def _xdotool(self, *arguments: str, check: bool = True) -> str:
        return _call(("xdotool", *arguments), self._environment, check=check)


@contextmanager
def screen(environment: dict[str, str], pictures: Path) -> Iterator[Screen]:
    """Start an X server on a free display with a window manager; everything is gone at the end.

    Raises:
        PictureFailed: a program is missing, or the server did not start.
    """
    missing = [
        name
        for name in ("Xvfb", "openbox", "xdotool", "import", "xterm", "xwininfo", "dbus-run-session")
        if not _has(name)
    ]
    if missing:
        raise PictureFailed(f"{', '.join(missing)} cannot be found: run {SETUP}")
    reading, writing = os.pipe()
    command = ("Xvfb", "-displayfd", str(writing), "-screen", "0", SIZE, "-nolisten", "tcp")
    with running(command, environment, keep=(writing,)), os.fdopen(reading) as said:
        os.close(writing)
        display = said.readline().strip()
        if not display:
            raise PictureFailed("Xvfb did not start")
        shown = environment | {"DISPLAY": f":{display}", "NO_AT_BRIDGE": "1", "GTK_THEME": "Adwaita"}
        with running(("openbox",), shown):
            yield Screen(shown, pictures)


@contextmanager
def running(
    command: Sequence[str], environment: dict[str, str], keep: Sequence[int] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program in the background while the block runs; it and what it started are stopped at the end."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=tuple(keep),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _stop(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
        # What it left of its own children goes, too.
        _stop(process, signal.SIGKILL)
        process.wait()


def _stop(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _differing(one: bytes, other: bytes) -> int:
    return sum(abs(a - b) > _SHADES for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other))


def _call(command: Sequence[str], environment: dict[str, str], *, check: bool = True) -> str:
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if check and ended.returncode:
        raise PictureFailed(f"{' '.join(command[:2])} failed: {ended.stderr.strip()[:200]}")
    return ended.stdout


def _has(program: str) -> bool:
    return shutil.which(program) is not None
