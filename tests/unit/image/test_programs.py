import os
import subprocess
from pathlib import Path

import pytest

from deploy.image.builder import htcondor, slurm
from deploy.image.builder.cache import SOURCES
from deploy.image.builder.programs import ELF, Tree, expect_version
from deploy.image.builder.run import BuildFailed

# Stands for the loader of a tree: it tells what it was called with.
LOADER = "#!/bin/sh\nprintf '%s\\n' \"$@\"\n"
# Stands for apt-get: a plan of three packages, and what it is asked to download.
APT_GET = """\
#!/bin/sh
case $1 in
install) printf 'Reading lists\\nInst libc6 (2.43)\\nInst perl (5.42)\\nInst perl-doc (5.42)\\nConf libc6 (2.43)\\n'
	[ "$4" != unknown ] ;;
download) shift; echo "$@" ;;
esac
"""


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    program(tmp_path / "tree/root/lib/ld", LOADER)
    return Tree(tmp_path / "tree", "lib/ld", ("lib", "usr/lib"))


def program(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)
    return path


def words_of(wrapper: Path, *arguments: str) -> list[str]:
    return subprocess.run([wrapper, *arguments], capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_wrapper_runs_its_program_by_the_trees_loader(tree: Tree) -> None:
    tree.wrap("bin/tool", tree.root / "usr/bin/tool-1", "-I$tree/modules")

    wrapper = tree.folder / "bin/tool"
    assert words_of(wrapper, "two words", "*") == [
        "--library-path",
        f"{tree.root}/lib:{tree.root}/usr/lib",
        "--argv0",
        str(wrapper),
        f"{tree.root}/usr/bin/tool-1",
        f"-I{tree.root}/modules",
        "two words",
        "*",
    ]


def test_a_wrapper_finds_its_tree_wherever_that_is_moved(tree: Tree, tmp_path: Path) -> None:
    tree.wrap("bin/tool", tree.root / "usr/bin/tool")
    moved = tree.folder.rename(tmp_path / "another tree")

    assert f"{moved}/root/usr/bin/tool" in words_of(moved / "bin/tool")


def test_a_link_to_a_wrapper_finds_the_wrappers_tree(tree: Tree, tmp_path: Path) -> None:
    tree.wrap("bin/tool", tree.root / "usr/bin/tool")
    link = tmp_path / "elsewhere"
    link.symlink_to(tree.folder / "bin/tool")

    assert f"{tree.root}/usr/bin/tool" in words_of(link)


def test_any_account_may_run_a_wrapper_whatever_the_builders_umask(tree: Tree) -> None:
    before = os.umask(0o077)
    try:
        tree.wrap("bin/tool", tree.root / "usr/bin/tool")
    finally:
        os.umask(before)

    assert [(tree.folder / name).stat().st_mode & 0o777 for name in ("bin", "bin/tool")] == [0o755, 0o755]


def test_only_programs_of_machine_code_are_wrapped(tree: Tree) -> None:
    folder = tree.root / "usr/bin"
    found = [program(folder / name, ELF.decode()) for name in ("daemon", "module.so")]
    found.append(program(folder / "script", "#!/usr/bin/perl\n"))
    (folder / "alias").symlink_to("daemon")
    (folder / "dangling").symlink_to("nowhere")

    tree.wrap_all("bin", [*found, folder / "alias", folder / "dangling", folder])

    assert sorted(path.name for path in (tree.folder / "bin").iterdir()) == ["alias", "daemon"]


@pytest.mark.parametrize("said", ["libx.so.1 => not found", "libx.so.1 => /usr/lib/libx.so.1 (0x7f00)"])
def test_a_library_that_is_not_the_trees_own_fails_the_build(tree: Tree, said: str) -> None:
    program(tree.root / "lib/ld", f"#!/bin/sh\necho '\t{said}'\n")
    daemon = program(tree.root / "usr/sbin/daemon", ELF.decode())

    with pytest.raises(BuildFailed, match=r"daemon of the unpacked packages lacks libx\.so\.1"):
        tree.check([daemon])


def test_libraries_of_the_tree_are_found(tree: Tree) -> None:
    program(
        tree.root / "lib/ld", f"#!/bin/sh\necho 'linux-vdso.so.1 (0x7f)'\necho 'libx => {tree.root}/lib/libx (0)'\n"
    )

    tree.check([program(tree.root / "usr/sbin/daemon", ELF.decode())])


@pytest.mark.parametrize("version", ["25.14.1+dfsg-1", "25.0-1"])
def test_the_version_that_a_recipe_is_for_is_taken(version: str) -> None:
    expect_version({"condor": version}, "condor", htcondor.MAJOR, htcondor.SUITE)


@pytest.mark.parametrize("versions", [{"condor": "26.0.1-1"}, {"condor": "250.1"}, {}])
def test_another_version_fails_the_build_and_says_what_to_do(versions: dict[str, str]) -> None:
    with pytest.raises(BuildFailed, match=r"forky has condor .* now.* is for 25: set VMBROKER_DEBIAN_ARCHIVE"):
        expect_version(versions, "condor", htcondor.MAJOR, htcondor.SUITE)


def test_what_a_recipe_leaves_out_is_named_whole(tmp_path: Path) -> None:
    assert download(tmp_path, "perl", "condor").stdout == "--quiet libc6 perl-doc\n"


def test_a_package_that_the_suite_does_not_have_fails_the_download(tmp_path: Path) -> None:
    assert download(tmp_path, "perl", "unknown").returncode != 0


def test_a_batch_system_is_told_as_what_it_is() -> None:
    titles = [recipe.title for recipe in (htcondor.RECIPE, slurm.RECIPE)]
    assert titles == ["batch system htcondor", "batch system slurm"]


def download(folder: Path, but: str, name: str) -> "subprocess.CompletedProcess[str]":
    program(folder / "bin/apt-get", APT_GET)
    command = [str(SOURCES / "builder/download"), "--with-dependencies", but, str(folder), name]
    environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "MMDEBSTRAP_APT_CONFIG": os.devnull}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
