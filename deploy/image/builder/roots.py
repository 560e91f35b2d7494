"""Clean roots: Debian releases with exactly the packages that a site installs on a node, and nothing of vmbroker.

A test runs the bundle in them, with their own QEMU and libvirt. They hold no Python.
"""

from . import packages
from .cache import SOURCES, Recipe, Workplace

PACKAGES = "../node/debian/packages.txt"
SUITES = {"root-debian11": "bullseye", "root-debian12": "bookworm", "root-debian13": "trixie"}


def site_packages(text: str) -> list[str]:
    """The packages that a list names, a line each, comments left out."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _recipe(name: str, suite: str) -> Recipe:
    def build(place: Workplace) -> dict[str, str]:
        packages.install(suite, site_packages((SOURCES / PACKAGES).read_text()), place.root, place.log)
        return packages.installed_versions(place.root)

    return Recipe(name, suite, about_s=35, sources=("build", "builder", PACKAGES), build=build, product="clean root")


RECIPES = [_recipe(name, suite) for name, suite in SUITES.items()]
