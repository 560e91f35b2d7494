"""A bundle that submits launchers: HTCondor's bindings by its own interpreter, with their libraries beside them."""

import importlib.metadata
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.bundle import CannotBundle, make_bundle
from launcher.bundle.making import _check_condor

LIMIT_S = 240
CODE = """if True:
    import os, sys
    sys.path.append(sys.argv[1])
    import classad2, htcondor2
    print(htcondor2.version().split()[1], classad2.ExprTree("1 + 1").eval())
    mapped = {line.split(None, 5)[-1].strip() for line in open("/proc/self/maps")}
    top = os.path.dirname(sys.argv[1])
    print(sorted(path for path in mapped if "condor" in path and not path.startswith(top)))
"""


@pytest.mark.timeout(LIMIT_S)
def test_a_bundle_carries_the_bindings_and_their_libraries_once(tmp_path: Path) -> None:
    make_bundle(tmp_path / "b.tar.gz", has_condor=True)
    subprocess.run(["tar", "-xzf", tmp_path / "b.tar.gz", "-C", tmp_path], check=True, timeout=LIMIT_S)
    (top,) = tmp_path.glob("vmbroker-*")
    site, libraries = top / "site", top / "lib"
    assert {"classad2", "htcondor2", "htcondor.libs"} < {path.name for path in site.iterdir()}
    assert not {"classad3", "htcondor_cli"} & {path.name for path in site.iterdir()}
    brought = {path.name for path in (site / "htcondor.libs").iterdir()}
    assert not brought & {path.name for path in libraries.iterdir()}
    assert "htcondor " in (top / "NOTICE").read_text()

    python = (libraries / "ld-linux-x86-64.so.2", "--library-path", libraries, top / "libexec" / "python3")
    said = subprocess.run(
        [*python, "-I", "-S", "-c", CODE, site], env={}, capture_output=True, text=True, timeout=LIMIT_S, check=True
    ).stdout
    assert said.splitlines() == [f"{importlib.metadata.version('htcondor')} 2", "[]"]

    _check_condor(top)
    shutil.rmtree(site / "htcondor.libs")
    with pytest.raises(CannotBundle, match="trying the bundle out"):
        _check_condor(top)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributions = importlib.metadata.distributions

    def without(*, name: str) -> object:
        return iter(()) if name == "htcondor" else distributions(name=name)

    monkeypatch.setattr(importlib.metadata, "distributions", without)
    with pytest.raises(
        CannotBundle, match=r"not installed beside this launcher: pip install 'vmbroker\[launcher,condor\]'"
    ):
        make_bundle(tmp_path / "b.tar.gz", has_condor=True)
    assert list(tmp_path.iterdir()) == []
