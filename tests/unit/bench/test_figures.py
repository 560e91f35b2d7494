import io
from pathlib import Path

import msgspec
from rich.console import Console

from bench.figures import median_of, ratio_of, read, show, write


def test_a_ratio_is_that_of_the_medians_and_its_spread_that_of_the_pairs() -> None:
    ratio = ratio_of("boot", [6.0, 8.0, 5.0], [5.0, 5.0, 4.0], reference="virsh create", at_most=1.15)

    assert (ratio.value, ratio.runs, ratio.spread) == (1.2, 3, (1.2, 1.6))
    assert not ratio.is_kept


def test_a_figure_at_its_bound_keeps_it_and_one_without_a_bound_always_does() -> None:
    assert median_of("cpu", "%", [2.0], at_most=2).is_kept
    assert median_of("cpu", "%", [99.0]).is_kept


def test_the_table_names_what_is_too_much_and_what_is_too_little() -> None:
    shown = io.StringIO()

    figures = [
        median_of("own work", "ms", [301.0], at_most=300),
        ratio_of("pushes", [5.0], [2.0], reference="a peer", at_least=3),
    ]
    show("On this machine", figures, Console(file=shown, width=160))

    assert "301 ms  TOO MUCH" in shown.getvalue()
    assert "2.5 x  TOO LITTLE" in shown.getvalue()
    assert "<= 300" in shown.getvalue()
    assert ">= 3" in shown.getvalue()


def test_the_file_is_a_list_of_figures_with_what_they_are_held_against(tmp_path: Path) -> None:
    figure = median_of("own work", "ms", [90.0, 110.0], reference="wall time", at_most=300, aim=100)

    write([figure], tmp_path / "out" / "vm.json")

    text = (tmp_path / "out" / "vm.json").read_bytes()
    assert read(tmp_path / "out" / "vm.json") == [figure]
    assert {"figure", "value", "unit", "runs", "reference"} <= msgspec.json.decode(text)[0].keys()
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "vm.json"]
