import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.image.builder.cache import Recipe, Workplace, digest_of, ensure, files_below
from deploy.image.builder.roots import site_packages
from deploy.image.builder.run import BuildFailed, run


def build(place: Workplace) -> dict[str, str]:
    place.disk.write_bytes(b"disk")
    return {"kernel": "6.1"}


def break_down(place: Workplace) -> dict[str, str]:
    place.disk.write_bytes(b"half")
    run(["sh", "-c", "echo no space; exit 3"], place.log)
    return {}


RECIPE = Recipe("tiny", "bookworm", about_s=1, sources=("stub",), build=build)


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VMBROKER_CACHE", str(tmp_path))
    return tmp_path / "images"


def names(images: Path) -> list[str]:
    return [path.name for path in images.iterdir() if path.name != ".tiny.lock"]


def test_an_image_is_built_once_and_then_found() -> None:
    said: list[str] = []
    first = ensure(RECIPE, said.append)
    assert ensure(replace(RECIPE, build=break_down), said.append) == first
    assert (first / "disk.qcow2").read_bytes() == b"disk"
    facts = json.loads((first / "recipe.json").read_text())
    assert facts["disk"]["digest"] == f"sha256:{hashlib.sha256(b'disk').hexdigest()}"
    assert facts["packages"] == {"kernel": "6.1"}
    assert said[0] == "setup: guest image tiny: building (about 1 s)"
    assert said[1].startswith("setup: guest image tiny: built in ")
    assert said[2:] == ["setup: guest image tiny: already there"]


def test_a_failed_build_leaves_nothing_and_tells_the_last_words(images: Path) -> None:
    with pytest.raises(BuildFailed, match="sh failed with status 3") as caught:
        ensure(replace(RECIPE, build=break_down), print)
    assert caught.value.log_tail == ("no space",)
    assert names(images) == []


def test_a_new_build_replaces_older_ones_and_what_a_killed_one_left(images: Path) -> None:
    (images / "tiny-0123456789abcdef").mkdir(parents=True)
    (images / ".tiny-building/scratch").mkdir(parents=True)
    folder = ensure(RECIPE, print)
    assert names(images) == [folder.name]


def test_the_digest_follows_names_contents_and_permissions(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "init").write_text("one")

    def digest() -> str:
        return digest_of(files_below(tree), tmp_path)

    seen = [digest()]
    (tree / "init").write_text("two")
    seen.append(digest())
    (tree / "init").chmod(0o755)
    seen.append(digest())
    (tree / "init").rename(tree / "run")
    seen.append(digest())
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__/init.pyc").write_bytes(b"compiled")
    assert digest() == seen[-1]
    assert len(set(seen)) == 4


def test_a_product_without_a_disk_is_told_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMBROKER_CACHE", str(tmp_path))

    def build_root(place: Workplace) -> dict[str, str]:
        place.root.mkdir()
        return {}

    said: list[str] = []
    recipe = Recipe("root-x", "sid", about_s=1, sources=("build",), build=build_root, product="clean root")
    folder = ensure(recipe, said.append)
    assert (folder / "root").is_dir()
    assert "disk" not in json.loads((folder / "recipe.json").read_text())
    assert said[0].startswith("setup: clean root root-x: building")


def test_a_list_of_packages_has_comments_and_empty_lines() -> None:
    assert site_packages("# why\n\nqemu-utils\nlibvirt-daemon # the daemon\n") == ["qemu-utils", "libvirt-daemon"]
