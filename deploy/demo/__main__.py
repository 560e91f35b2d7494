"""Three files in, three virtual machines, three results out.

Everything here is what a researcher and a site would do, by the same commands: nothing is started, faked or shortened
that they would not have. What it leaves is `demo-results/`; servers, vms and folders of its own are gone at the end.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from broker.client.session import CallError, Session
from broker.wire.accounts import WhoAmI
from broker.wire.items import ItemPage, ItemView
from broker.wire.states import ItemState, Phase
from deploy.demo.processes import (
    DemoFailed,
    Shell,
    TookTooLong,
    left_running,
    left_running_after_a_while,
    log_tail,
)
from deploy.demo.stopping import Stopped, StopSignals

_HERE = Path(__file__).parent
_REPOSITORY = _HERE.parent.parent
_STREAM = "search"
_MACHINE = "hmmer"
_RESULTS = Path("demo-results")
_MOST_COLUMNS = 3
_LINE_COLUMNS = 180
_BUILD_S = 3_600
_WATCH_S = 1_800
_OUT_OF_TIME = f"not all was done within {_WATCH_S} s"


class Login(msgspec.Struct):
    """The first user's login, as `broker serve` writes it."""

    url: str
    token: str


def main() -> int:
    """Run the demo; return its exit status."""
    arguments = _arguments()
    stop_signals = StopSignals()
    console = Console(soft_wrap=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="vmb-demo-", dir="/tmp") as name:
        home = Path(name)
        # The launcher's folder is below it, and QEMU may run under another account.
        home.chmod(0o711)
        try:
            views = _play(Shell(console, home, stop_signals), home, arguments)
        except DemoFailed as failure:
            return _ended_early(console, "demo failed", str(failure), name, 1)
        except Stopped as stopped:
            return _ended_early(console, "demo ended", str(stopped), name, stopped.exit_status)
        left = left_running(name)
    if left:
        console.print(f"[bold red]demo failed:[/] still running at the end: {'; '.join(left)}")
        return 1
    _print_results(console, views)
    console.print(f"{len(views)} results are in {_RESULTS}/; nothing is left running.")
    return 0


def _ended_early(console: Console, title: str, sentence: str, mark: str, status: int) -> int:
    left = left_running_after_a_while(mark)
    console.print(f"\n[bold red]{title}:[/] {escape(sentence)}")
    if left:
        console.print(f"[bold red]still running:[/] {escape('; '.join(left))}")
    else:
        console.print("nothing is left running")
    return status


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--input", type=Path, help="folder whose files are pushed instead of the example's")
    return parser.parse_args()


def _play(shell: Shell, home: Path, arguments: argparse.Namespace) -> list[ItemView]:
    built = _built(shell, "full")
    image = built / "disk.qcow2"
    inputs = _inputs(arguments.input or built / "inputs")
    serve_log, launcher_log = home / "broker.log", home / "launcher.log"
    with shell.running(serve_log, "broker", "serve", "--listen", "127.0.0.1:0"):
        login_file = home / "config" / "vmbroker" / "login.json"
        shell.wait_for_file(login_file)
        shell.run("broker", "machine", "add", _MACHINE, _relative(_HERE / "domain.xml"), "--disk", f"vda={image}")
        shell.run(
            "broker",
            "stream",
            "add",
            _STREAM,
            "--machine",
            _MACHINE,
            "--run",
            "/opt/app/run {input} {output}",
            "--attempts",
            "1",
        )
        shell.run("broker", "push", _STREAM, *map(str, inputs))
        scratch = ("--scratch", str(home / "node"), "--cache", str(home / "cache"))
        with shell.running(launcher_log, "launcher", "run", *scratch):
            watched = _watched(shell)
        views = _views(msgspec.json.decode(login_file.read_bytes(), type=Login))
        _check(shell, views, watched, len(inputs), launcher_log)
        shell.run("broker", "results", _STREAM, "--download", str(_RESULTS), "--force")
    return views


def _built(shell: Shell, name: str) -> Path:
    build = str(_HERE.parent / "image" / "build")
    # In the person's own environment: it names the cache that `make demo` built it into.
    return Path(shell.capture(build, name, "--print-path", environment=os.environ, timeout_s=_BUILD_S).decode().strip())


def _watched(shell: Shell) -> int | None:
    """Show live what happens; return the exit status of `broker watch`, None when it saw no end."""
    try:
        return shell.run("broker", "watch", _STREAM, timeout_s=_WATCH_S, may_fail=True)
    except TookTooLong:
        return None


def _inputs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DemoFailed(f"{folder} is no folder; name one whose files are to be pushed: make demo DEMO_INPUT=DIR")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if not files:
        raise DemoFailed(f"{folder} holds no files; put at least one there")
    return files


def _relative(path: Path) -> str:
    return os.path.relpath(path, Path.cwd()) if path.is_relative_to(_REPOSITORY) else str(path)


def _views(login: Login) -> list[ItemView]:
    try:
        return asyncio.run(_asked_views(login))
    except CallError as error:
        raise DemoFailed(f"the broker does not tell what became of the items: {error}") from error


async def _asked_views(login: Login) -> list[ItemView]:
    async with Session(login.url, token=login.token) as session:
        who = await session.call("GET", "/v1/whoami", answer=WhoAmI)
        path = f"/v1/streams/{who.user}/{_STREAM}/items"
        page = await session.call("GET", path, query={"limit": "1000"}, answer=ItemPage)
        return page.items


def _check(shell: Shell, views: list[ItemView], watched: int | None, expected: int, launcher_log: Path) -> None:
    failed = [view for view in views if view.state is not ItemState.DONE]
    if not failed and len(views) == expected and watched == 0:
        return
    if not failed:
        how = _OUT_OF_TIME if watched is None else f"`broker watch` ended with {watched}"
        raise DemoFailed(f"{len(views)} of {expected} items are there, {how}:\n{log_tail(launcher_log)}")
    view = failed[0]
    why = view.reason.sentence if view.reason else f"it is {view.state}"
    if watched is None:
        why = f"{_OUT_OF_TIME}; {why}"
    console = shell.capture("broker", "console", view.item) if view.vm and view.vm.has_console else b"(no console)"
    tail = "\n".join(console.decode(errors="replace").splitlines()[-30:])
    raise DemoFailed(f"item {view.item}: {why}\n--- the console of its vm ---\n{tail}")


def _print_results(console: Console, views: list[ItemView]) -> None:
    """Print what became of each item: a column each while that fits a terminal of 80 columns, else a line each."""
    rows = [_facts(view) for view in views]
    if len(rows) <= _MOST_COLUMNS:
        table = Table("", *(row["item"] for row in rows), box=box.SIMPLE_HEAD, title="Each result from a vm of its own")
        for name in list(rows[0])[1:]:
            table.add_row(name, *(row[name] for row in rows))
        console.print(table)
        return
    table = Table(*rows[0], box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row.values())
    console.print(table, width=max(console.width, _LINE_COLUMNS), crop=False, no_wrap=True)


def _facts(view: ItemView) -> dict[str, str]:
    vm = view.vm
    assert vm is not None
    return {
        "item": f"{view.item.rpartition('/')[2]} {view.name or (view.url or '').rpartition('/')[2]}",
        "node": vm.node,
        "accelerator": vm.accelerator.value if vm.accelerator else "-",
        "guest OS": vm.facts.get("guest_os", "-"),
        "vcpus": str(vm.vcpus),
        "prepare ms": _between(vm.phases, Phase.PREPARING, Phase.BOOTING),
        "boot to claim ms": _between(vm.phases, Phase.BOOTING, Phase.CLAIMED),
        "fetch ms": vm.facts.get("fetch_ms", "-"),
        "run ms": vm.facts.get("run_ms", "-"),
        "upload ms": vm.facts.get("upload_ms", "-"),
        "in all ms": _between(vm.phases, Phase.PREPARING, Phase.ENDED),
        "bytes": str(sum(output.size_bytes for output in view.outputs)),
        "sha256": ", ".join(output.digest.removeprefix("sha256:")[:16] for output in view.outputs) or "-",
    }


def _between(phases: dict[Phase, str], first: Phase, last: Phase) -> str:
    if first not in phases or last not in phases:
        return "-"
    gap = datetime.fromisoformat(phases[last]) - datetime.fromisoformat(phases[first])
    return str(int(gap.total_seconds() * 1000))


if __name__ == "__main__":
    started = time.monotonic()
    status = main()
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(status)
