"""HTCondor's daemons and commands, of the release that its Python bindings on PyPI have."""

from . import programs
from .cache import Recipe, Workplace
from .run import output_of

SUITE = "forky"
MAJOR = "25"
# What only its scripts need, and what sets a system up.
BUT = (
    "(lib)?(python|perl)[0-9.-].*|python3|perl|lib.*-perl|libjs-.*|node-.*|jq|systemd|libsystemd-shared|cryptsetup.*|"
    "dmsetup|adduser|passwd|base-passwd|login.*|debconf|tzdata|net-tools|ca-certificates|openssl.*|media-types|netbase|"
    "libpam-modules.*|gcc-.*|libc-gconv-modules-extra|.*-common"
)
_LIBEXEC = "usr/libexec/condor"
# As root it changes settings of the machine's kernel. What is not there does not run.
_NEVER = f"{_LIBEXEC}/linux_kernel_tuning"


def build(place: Workplace) -> dict[str, str]:
    kept = ("usr/bin/*", "usr/sbin/*", f"{_LIBEXEC}/*", "usr/lib/condor")
    tree, versions = programs.unpack(place, SUITE, ["condor"], but=BUT, kept=kept)
    programs.expect_version(versions, "condor", MAJOR, SUITE)
    (tree.root / _NEVER).unlink()
    folders = {"bin": tree.root / "usr/bin", "sbin": tree.root / "usr/sbin", "libexec": tree.root / _LIBEXEC}
    for into, folder in folders.items():
        found = sorted(folder.iterdir())
        tree.wrap_all(into, found)
        tree.check(found)
    _add_scripts(tree)
    output_of([tree.folder / "bin/condor_version"])
    return versions


def _add_scripts(tree: programs.Tree) -> None:
    """The starter's shell scripts, which it looks for beside its programs; those for Python and Perl stay out."""
    for script in (tree.root / _LIBEXEC).glob("*.sh"):
        (tree.folder / "libexec" / script.name).symlink_to(f"../root/{_LIBEXEC}/{script.name}")


RECIPE = Recipe("htcondor", SUITE, about_s=20, sources=("build", "builder"), build=build, product="batch system")
