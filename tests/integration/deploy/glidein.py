"""What a glidein has when it runs a custom script: its configuration, and the tools that this names.

The files are ours, written to what GlideinWMS documents of them, not its own: `add_config_line NAME VALUE` keeps one
line a name in glidein_config, `add_condor_vars_line` one of seven columns in the condor vars file, and the error
generator is run as `-ok NAME [KEY VALUE]…` or `-error NAME TYPE TEXT [KEY VALUE]…`.

Source: GlideinWMS's documentation, factory/custom_scripts.html and factory/validation_xml_output.html.
"""

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.integration.deploy.files import write_program

_LIMIT_S = 30
_FUNCTIONS = """\
add_config_line() {
    [[ -n "$glidein_config" ]] || exit 1
    grep -v "^$1 " "$glidein_config" > "$glidein_config.new"
    echo "$@" >> "$glidein_config.new"
    mv "$glidein_config.new" "$glidein_config"
}
add_condor_vars_line() {
    [[ -n "$condor_vars_file" ]] || exit 1
    grep -v "^$1 " "$condor_vars_file" > "$condor_vars_file.new"
    echo "$@" >> "$condor_vars_file.new"
    mv "$condor_vars_file.new" "$condor_vars_file"
}
"""
# As GlideinWMS's own, it puts the texts into XML as they are.
_ERROR_GENERATOR = """\
status=${1#-}; shift
name=$1; shift
{
    echo "<OSGTestResult id=\\"$name\\" version=\\"4.3.1\\"><result><status>$status</status>"
    detail=
    if [ "$status" = error ]; then echo "<metric name=\\"failure\\">$1</metric>"; detail=$2; shift 2; fi
    while [ $# -gt 1 ]; do echo "<metric name=\\"$1\\">$2</metric>"; shift 2; done
    echo "</result><detail>$detail</detail></OSGTestResult>"
} > otrb_output.xml"""
_FAILURES = ("WN_Resource", "Network", "Config", "VO_Config", "Corruption", "VO_Proxy")


@dataclass(frozen=True)
class Outcome:
    """What a script left.

    Attributes:
        status: Its exit status: other than 0, the glidein ends.
        config: glidein_config.
        columns: The condor vars file: what follows a name.
        said: "ok" or "error", as it told the error generator.
        metrics: What it told with that.
        detail: The text of an error.
        output: What it printed.
    """

    status: int
    config: dict[str, str]
    columns: dict[str, list[str]]
    said: str
    metrics: dict[str, str]
    detail: str
    output: str

    def ad(self) -> dict[str, str]:
        """Return the expressions of the slot's ad that condor_startup.sh makes of it: strings quoted."""
        found = {}
        for name, (kind, default, other, _required, is_published, _in_jobs) in self.columns.items():
            value = self.config.get(name, default)
            if is_published == "Y":
                found[name if other == "+" else other] = f'"{value}"' if kind == "S" else value
        return found


class Glidein:
    """The folder of a glidein that is about to run its scripts."""

    def __init__(self, folder: Path, **attributes: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "condor_vars.lst").write_text("# VarName Type Default CondorName Req. Export UserJobEnvName\n")
        (folder / "add_config_line.source").write_text(_FUNCTIONS)
        error_generator = write_program(folder / "error_gen.sh", _ERROR_GENERATOR)
        own = {
            "ADD_CONFIG_LINE_SOURCE": str(folder / "add_config_line.source"),
            "CONDOR_VARS_FILE": str(folder / "condor_vars.lst"),
            "ERROR_GEN_PATH": str(error_generator),
            "GLIDEIN_Entry_Name": "site",
        }
        lines = [f"{name} {value}\n" for name, value in (own | attributes).items()]
        (folder / "glidein_config").write_text("".join(lines))

    def run(self, script: Path, environment: Mapping[str, str]) -> Outcome:
        """Run a custom script as a glidein does: with the configuration's name and an entry's."""
        return self._run(script, Path("glidein_config"), self.folder, environment)

    def run_again(self, script: Path) -> Outcome:
        """Run a custom script as the startd of a glidein does each period: in a folder made for this run."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            return self._run(script, self.folder / "glidein_config", Path(folder), {})

    def _run(self, script: Path, config: Path, folder: Path, environment: Mapping[str, str]) -> Outcome:
        done = subprocess.run(
            [script, config, "site"],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", **environment},
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        return self._outcome(done, folder)

    def _outcome(self, done: "subprocess.CompletedProcess[str]", folder: Path) -> Outcome:
        report = ET.parse(folder / "otrb_output.xml").getroot()
        metrics = {str(each.get("name")): each.text or "" for each in report.iter("metric")}
        if report.findtext("result/status") == "error":
            assert metrics["failure"] in _FAILURES
        return Outcome(
            status=done.returncode,
            config=dict(line.split(" ", 1) for line in self._lines("glidein_config")),
            columns={line.split()[0]: _columns(line) for line in self._lines("condor_vars.lst") if line[0] != "#"},
            said=report.findtext("result/status", ""),
            metrics=metrics,
            detail=report.findtext("detail", ""),
            output=done.stdout,
        )

    def _lines(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines()


def _columns(line: str) -> list[str]:
    """Return what follows a name, in the form that is documented."""
    _, kind, default, name, required, published, in_jobs = line.split()
    assert kind in {"I", "S", "C"}
    assert {required, published} <= {"Y", "N"}
    assert in_jobs in {"-", "+", "@"}
    return [kind, default, name, required, published, in_jobs]
