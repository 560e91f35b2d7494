"""Slurm: its controller, its node's daemon and its commands, with qsub, qstat and qdel as PBS has them."""

import re

from . import programs
from .cache import Recipe, Workplace
from .packages import only
from .run import output_of

SUITE = "bookworm"
MAJOR = "22"
PACKAGES = ["slurmctld", "slurmd", "slurm-client", "slurm-wlm-torque", "munge", "perl"]
# What sets a system up.
BUT = (
    "adduser|passwd|debconf|dpkg|tar|ucf|sensible-utils|lsb-base|sysvinit-utils|libpam-modules.*|readline-common|gcc-.*|"
    "libaudit-common|libsemanage-common"
)
_PLUGINS = "usr/lib/x86_64-linux-gnu/slurm-wlm"
_DAEMONS = ("slurmctld", "slurmd", "slurmstepd")
_COMMANDS = ("sbatch", "scancel", "scontrol", "sdiag", "sinfo", "squeue", "srun", "munge", "unmunge")
_IN_PERL = ("qalter", "qdel", "qhold", "qrls", "qstat", "qsub")
_PERL = ("usr/bin/perl", "usr/share/perl*", "usr/lib/*/perl*")


def build(place: Workplace) -> dict[str, str]:
    kept = (*(f"usr/sbin/{name}-wlm" for name in _DAEMONS), "usr/sbin/munge*", "usr/bin/*", *_PERL, _PLUGINS)
    tree, versions = programs.unpack(place, SUITE, PACKAGES, but=BUT, kept=kept)
    programs.expect_version(versions, "slurmctld", MAJOR, SUITE)
    tree = tree.with_libraries(_PLUGINS)
    sbin = {name: tree.root / f"usr/sbin/{name}-wlm" for name in _DAEMONS}
    sbin |= {name: tree.root / "usr/sbin" / name for name in ("munged", "mungekey")}
    commands = {name: tree.root / "usr/bin" / name for name in _COMMANDS}
    for into, wrapped in (("sbin", sbin), ("bin", commands)):
        for name, program in wrapped.items():
            tree.wrap(f"{into}/{name}", program)
        tree.check(list(wrapped.values()))
    _add_perl(tree)
    output_of([tree.folder / "sbin/slurmctld", "-V"])
    return versions


def _add_perl(tree: programs.Tree) -> None:
    """The commands in Perl are run by the tree's own; they look for Slurm's beside them, so they are in `bin/` too."""
    perl = tree.root / "usr/bin/perl"
    tree.check([perl, *tree.root.glob("usr/lib/*/perl5/**/Slurm*.so")])
    include = [f"-I$tree/{only(tree.root, folder).relative_to(tree.root)}" for folder in _MODULES]
    for name in _IN_PERL:
        script = tree.folder / "bin" / f"{name}.pl"
        text = (tree.root / "usr/bin" / name).read_text()
        script.write_text(re.sub(r"^use lib .*\n", "", text, flags=re.MULTILINE))  # this machine's modules
        script.chmod(0o644)
        tree.wrap(f"bin/{name}", perl, *include, f"$tree/../bin/{name}.pl")


# In the order in which Perl itself looks.
_MODULES = (
    "usr/lib/*/perl5/5.*",
    "usr/share/perl5",
    "usr/lib/*/perl/5.*.*",
    "usr/share/perl/5.*.*",
    "usr/lib/*/perl-base",
)
RECIPE = Recipe("slurm", SUITE, about_s=15, sources=("build", "builder"), build=build, product="batch system")
