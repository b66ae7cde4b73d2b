"""Tables and words: numbers as people read them, names as they are."""

from collections.abc import Callable

import pytest
from rich.console import Console

from treering.records import ACCURACY, Record
from treering.report import markdown_table, render_html, terminal_table, wording
from treering.report.statistics import Estimate
from treering.report.styles import styles

MakeRecord = Callable[..., Record]
MINUS = "\N{MINUS SIGN}"


def printed(records: list[Record], width: int = 160) -> str:
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(terminal_table(records))
    return capture.get()


def test_markdown_has_one_line_a_layer_best_first(runs: list[Record]) -> None:
    # lstm 0.7, 0.8, 0.9: half width 24.84 points; gru minus lstm: -0.2, -0.29, -0.41, mean -0.30,
    # s = 0.1053565, half width 4.302653 * 0.1053565 / sqrt(3) = 0.261722.
    assert markdown_table(runs).splitlines() == [
        r"**parity\_check**",
        "",
        "| layer | score | seeds | minus lstm | parameters | tokens/s | wall time | peak memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| pr-lstm | 99.0% ± 2.5 | 3 | +19.0 ± 23.7 | 18,244 | 61,200 | 1 min 35 s | 410 MiB |",
        "| lstm | 80.0% ± 24.8 | 3 | baseline | 18,244 | 61,200 | 1 min 35 s | 410 MiB |",
        f"| gru | 50.0% ± 2.5 | 3 | {MINUS}30.0 ± 26.2 | 18,244 | 61,200 | 1 min 35 s | 410 MiB |",
        "",
        "Score: mean accuracy, lengths 41 to 81, 512 samples each; mean ± 95% interval over seeds "
        "(Student's t). Minus lstm: points, seed by seed. Chance: 50.0%.",
    ]


def test_without_the_baseline_nothing_is_compared_with_it(make_record: MakeRecord) -> None:
    runs = [make_record("gru"), make_record("rnn")]
    for text in (markdown_table(runs), printed(runs), render_html(runs)):
        assert "gru" in text
        assert "inus lstm" not in text
    # Of several tasks on a terminal, one that has it is enough.
    assert "minus lstm" in printed([*runs, make_record("lstm", task="even_pairs")])


def test_markdown_cannot_be_broken_by_a_name(make_record: MakeRecord) -> None:
    table = markdown_table([make_record("a|b\n<i>*c*")])
    assert r"| a\|b \<i\>\*c\* |" in table
    assert markdown_table([]) == ""


def test_the_terminal_shows_every_layer_and_its_numbers(runs: list[Record]) -> None:
    text = printed(runs)
    for part in ("parity_check", "pr-lstm", "99.0% ± 2.5", "+19.0 ± 23.7", "18,244", "baseline"):
        assert part in text
    assert text.index("pr-lstm") < text.index("gru")


def test_the_terminal_takes_names_as_they_are(make_record: MakeRecord) -> None:
    assert "[red]lstm[/red]" in printed([make_record("[red]lstm[/red]")])


def test_the_terminal_names_the_task_if_there_are_several(
    runs: list[Record], make_record: MakeRecord
) -> None:
    text = printed([*runs, make_record(task="even_pairs", score=None)])
    assert "even_pairs" in text
    assert text.count("parity_check") == 1
    assert "0 of 1" in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, "100.0%"),
        (0.99999, ">99.99%"),
        (0.9997, "99.97%"),
        (0.999, "99.9%"),
        (0.5, "50.0%"),
        (0.0001, "<0.1%"),
        (0.0, "0.0%"),
    ],
)
def test_only_what_is_right_throughout_is_100_percent(value: float, expected: str) -> None:
    assert wording.percent(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.031, "+3.1"), (-0.004, f"{MINUS}0.4"), (0.0, "0.0"), (-0.0001, "0.0")],
)
def test_differences_have_signs(value: float, expected: str) -> None:
    assert wording.signed(value, ACCURACY) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, wording.NONE),
        (0.25, "0.2 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (61, "1 min 01 s"),
        (7199, "1 h 59 min"),
        (7260, "2 h 01 min"),
    ],
)
def test_times_are_read_easily(value: float | None, expected: str) -> None:
    assert wording.seconds(value) == expected


def test_small_half_widths_do_not_read_as_none() -> None:
    assert wording.score(Estimate(3, 0.5, 0.0001, 0.5, 0.5), ACCURACY) == "50.0% ± <0.1"
    assert wording.score(Estimate(3, 0.5, 0.0, 0.5, 0.5), ACCURACY) == "50.0% ± 0.0"
    assert wording.score(Estimate(1, 0.5, None, 0.5, 0.5), ACCURACY) == "50.0%"


@pytest.mark.parametrize(
    ("value", "expected"), [(0, wording.NONE), (12.34, "12"), (987, "987"), (61_284, "61,300")]
)
def test_speeds_have_three_digits(value: float, expected: str) -> None:
    assert wording.whole(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, wording.NONE), (0, wording.NONE), (2**28, "256 MiB"), (2**36, "64.0 GiB")],
)
def test_memory_is_in_units_people_know(value: int | None, expected: str) -> None:
    assert wording.memory(value) == expected


def test_a_well_known_layer_has_one_look_in_every_company() -> None:
    alone = styles(["pr-lstm"])["pr-lstm"]
    assert styles(["lstm", "gru", "x", "y", "pr-lstm", "aa"])["pr-lstm"] == alone


def test_looks_never_repeat_and_do_not_hang_on_order() -> None:
    names = ["lstm", *(f"layer-{i}" for i in range(20))]
    looks = styles(names)
    assert len(set(looks.values())) == len(names)
    assert looks == styles(names[::-1])
    # Not by colour alone: of one colour, lines and markers differ.
    shapes = [(look.colour, look.dashes, look.marker) for look in looks.values()]
    assert len({colour for colour, _, _ in shapes}) == 7
    assert all(a[1:] != b[1:] for a in shapes for b in shapes if a is not b and a[0] == b[0])
