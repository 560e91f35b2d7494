from bench.figures import median_of, ratio_of
from bench.table import markdown


def test_the_table_has_a_row_for_each_figure_with_its_bound_and_aim() -> None:
    figures = [
        median_of("bulk push", "items/s", [12_345.6, 20_000.0, 11_000.0]),
        median_of("  RQ", "items/s", [8_000.0]),
        ratio_of("bulk push / RQ", [3.0], [2.0], reference="RQ", at_least=3, aim=6),
        median_of("memory", "MiB", [123.456], at_most=400),
    ]

    rows = markdown(figures).splitlines()

    assert rows[2:] == [
        "| bulk push | 12,346 items/s (11,000 to 20,000) |  |  |",
        "| … RQ | 8,000 items/s |  |  |",
        "| bulk push / RQ | 1.5 \N{MULTIPLICATION SIGN} | ≥ 3 | 6 |",
        "| memory | 123 MiB | ≤ 400 |  |",
    ]
