from pathlib import Path

import pytest

from broker.cli import showing
from broker.cli.amounts import parse_duration_ms
from broker.cli.commands import COMMANDS, load
from broker.cli.downloads import local_path
from broker.cli.exits import BadUsage, Failed
from broker.cli.push import params_of


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("a\x1b[2Jb", "a^[[2Jb"),
        ("a\rb", "a^Mb"),
        ("a\r\nb", "a\nb"),
        ("\x07\x7f", "^G^?"),
        ("\x9b31m", "\\u009b31m"),
        ("evil\u202etxt", "evil\\u202etxt"),
        ("über", "über"),
    ],
)
def test_what_could_act_on_a_terminal_is_made_visible(raw: str, shown: str) -> None:
    assert showing.visible(raw) == shown


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a//b", "", "a\0b", "..", "a\\..\\b"])
def test_a_result_is_written_below_its_folder_or_not_at_all(tmp_path: Path, name: str) -> None:
    with pytest.raises(Failed, match="refused"):
        local_path(tmp_path, "alice/render/7", name)


def test_a_result_lies_below_its_items_number() -> None:
    assert local_path(Path("out"), "alice/render/7", "sub/a.txt") == Path("out/7/sub/a.txt")


@pytest.mark.parametrize(
    ("text", "ms"), [("90s", 90_000), ("15m", 900_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("500ms", 500)]
)
def test_durations_are_read_as_people_write_them(text: str, ms: int) -> None:
    assert parse_duration_ms(text, "--run-limit") == ms


@pytest.mark.parametrize("text", ["", "5", "2 h", "-1s", "1.5h", "h"])
def test_another_text_is_no_duration(text: str) -> None:
    with pytest.raises(BadUsage, match="--run-limit"):
        parse_duration_ms(text, "--run-limit")


def test_a_range_gives_each_item_its_value() -> None:
    assert params_of(["seed={1..3}", "k=v"], None) == {"seed": ["1", "2", "3"], "k": ["v"]}
    assert params_of(["f=a{2..0}b"], 3) == {"f": ["a2b", "a1b", "a0b"]}
    with pytest.raises(BadUsage, match="as many values as there are items"):
        params_of(["seed={1..3}"], 2)
    with pytest.raises(BadUsage, match="NAME=VALUE"):
        params_of(["seed"], None)


def test_every_command_of_the_overview_can_be_loaded() -> None:
    for name in COMMANDS:
        assert load(name).get_short_help_str(200), name
