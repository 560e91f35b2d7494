"""From virt-manager's "New virtual machine" to `broker try`, played for real, a picture of each step.

`make pictures` writes docs/how-to/pictures/*.png. It wants an ordinary user, as whom virt-manager has a
libvirt of its own. The guest image `stock` stands for the system that a person
would have installed from its medium.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from docs.pictures.screen import PictureFailed, Screen, Window, running, screen

_REPOSITORY = Path(__file__).parents[2]
_PICTURES = _REPOSITORY / "docs" / "how-to" / "pictures"
_PORT = 8080
_MACHINE = "debian11"
_BUILD_S = 1_800
_READY_S = 90
_BOOT_S = 240
_COMMAND_S = 600
_COLUMNS = 118
_PROMPTS = "prompts"


def main() -> int:
    """Take all pictures; return the exit status."""
    if os.geteuid() == 0:
        print("pictures: run this as an ordinary user, as a desktop's owner is", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="desktop-", dir="/tmp") as name:
        try:
            _play(Path(name))
        except PictureFailed as failure:
            print(f"pictures: {failure}", file=sys.stderr)
            return 1
    return 0


def _play(home: Path) -> None:
    environment = _environment(home)
    disk = home / "vms" / f"{_MACHINE}.qcow2"
    disk.parent.mkdir()
    shutil.copyfile(_stock_image(), disk)
    _PICTURES.mkdir(exist_ok=True)
    with ExitStack() as stack:
        shown = stack.enter_context(screen(environment, _PICTURES))
        stack.enter_context(running(("libvirtd",), environment))
        stack.callback(_destroy, environment)
        stack.enter_context(_broker(home, environment))
        with shown.showing("dbus-run-session", "--", "virt-manager", "--no-fork", "--connect", "qemu:///session"):
            _make_machine(shown, disk)
            _install_client(shown)
            _wait_off(environment)
        stack.enter_context(running(("launcher", "run", "--scratch", str(home / "n")), environment))
        _hand_over_and_try(shown, home)


def _make_machine(shown: Screen, disk: Path) -> None:
    manager = shown.window("Virtual Machine Manager")
    shown.take("1-manager", manager)
    shown.press("alt+f")
    shown.press("n")
    wizard = shown.window("New VM")
    shown.press("Down", "Down")
    shown.take("2-import", wizard)
    _forward(shown, wizard)
    shown.click(wizard, 120, 115)
    shown.type(str(disk))
    shown.click(wizard, 150, -74)
    shown.type("debian 11")
    shown.press("Down", "Return")
    shown.take("3-disk-and-system", wizard)
    _forward(shown, wizard)
    shown.take("4-memory-and-cpus", wizard)
    _forward(shown, wizard)
    shown.take("5-name-and-finish", wizard)
    _forward(shown, wizard)


def _forward(shown: Screen, wizard: Window) -> None:
    shown.click(wizard, -48, -30)


def _install_client(shown: Screen) -> None:
    """Let the broker's stub into the running machine, by the terminal that virt-manager shows, and shut it down."""
    window = shown.window(f"{_MACHINE} on")
    shown.wait_still(window, _BOOT_S)
    shown.click(window, window.width // 2, window.height // 2)
    shown.enter(f"curl -fsS http://10.0.2.2:{_PORT}/guest/install | sh")
    shown.wait_still(window, 60)
    shown.take("6-install-the-client", window)
    shown.enter("poweroff")


def _hand_over_and_try(shown: Screen, home: Path) -> None:
    (home / "hello.txt").write_text("hello from the desktop\n")
    steps = {
        "7-machine-add": [f"broker machine add {_MACHINE} --domain {_MACHINE}"],
        "8-try": [
            f'broker stream add hello --machine {_MACHINE} --run "cp {{input}} {{output}}"',
            "broker try hello hello.txt",
        ],
    }
    font = ("-fa", "DejaVu Sans Mono", "-fs", "10", "-geometry", f"{_COLUMNS}x46")
    with shown.showing("xterm", "-T", "Terminal", *font, "-e", "bash", "--norc", "-i"):
        window = shown.window("Terminal")
        prompts = home / _PROMPTS
        shown.enter("cd")
        for name, lines in steps.items():
            shown.enter("clear")
            for line in lines:
                prompts.unlink()
                shown.enter(line)
                _wait(prompts.exists, f"the end of {line!r}", _COMMAND_S)
                if prompts.read_text() != "0":
                    raise PictureFailed(f"{line!r} ended with exit status {prompts.read_text()}")
            shown.take(name, window)


def _environment(home: Path) -> dict[str, str]:
    run = home / "run"
    run.mkdir(mode=0o700)
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", "/usr/bin:/bin"), "/usr/sbin", "/sbin"]
    return {
        "HOME": str(home),
        "PATH": ":".join(places),
        "XDG_RUNTIME_DIR": str(run),
        "LANG": "C.UTF-8",
        "PS1": "$ ",
        # Tells from outside that the shell waits for the next command, and how the last one ended.
        "PROMPT_COMMAND": f"printf %s $? >{home / _PROMPTS}.new; mv {home / _PROMPTS}.new {home / _PROMPTS}",
    }


def _stock_image() -> Path:
    command = [str(_REPOSITORY / "deploy" / "image" / "build"), "stock", "--print-path"]
    built = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_S, check=False)
    if built.returncode:
        raise PictureFailed(f"the guest image cannot be built: {built.stderr.strip()[-300:]}")
    return Path(built.stdout.strip()) / "disk.qcow2"


@contextmanager
def _broker(home: Path, environment: dict[str, str]) -> Iterator[None]:
    ready = home / "ready"
    listen = f"127.0.0.1:{_PORT}"
    with running(("broker", "serve", "--listen", listen, "--user", "alice", "--ready-file", str(ready)), environment):
        _wait(ready.exists, "the broker", _READY_S)
        yield


def _wait_off(environment: dict[str, str]) -> None:
    _wait(lambda: _virsh(environment, "domstate", _MACHINE).strip() == "shut off", "the machine's shutdown", _BOOT_S)


def _wait(is_so: Callable[[], bool], what: str, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline_s:
            raise PictureFailed(f"{what} did not come within {timeout_s:.0f} s")
        time.sleep(0.5)


def _destroy(environment: dict[str, str]) -> None:
    _virsh(environment, "destroy", _MACHINE)


def _virsh(environment: dict[str, str], *arguments: str) -> str:
    command = ["virsh", "--connect", "qemu:///session", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_READY_S, check=False
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
