"""The page is whole, honest, self-contained and the same every time."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import pytest

import treering.report
from treering._errors import UserError
from treering.records import Cost, CurvePoint, Record
from treering.report import render_html, write_html
from treering.report.plots import HEIGHT

MakeRecord = Callable[..., Record]
VOID = {"meta", "link", "br", "wbr", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what a test asks for."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.codes: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "code":
            self.codes.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)
        if "code" in self.open:
            self.codes[-1] += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))

    def attributes(self, name: str) -> list[str]:
        return [value for _, attrs in self.tags if (value := attrs.get(name)) is not None]


def test_the_page_is_well_formed_and_its_names_are_its_own(runs: list[Record]) -> None:
    page = Page(render_html(runs, "A title"))
    names = page.attributes("id")
    assert len(names) == len(set(names))
    targets = re.findall(r"url\(#([^)]+)\)", render_html(runs)) + [
        value[1:] for value in page.attributes("href") if value.startswith("#")
    ]
    assert set(targets) <= set(names)
    assert "A title" in page.text


def test_the_page_needs_nothing_from_outside(runs: list[Record]) -> None:
    html = render_html(runs)
    assert not re.search(r"https?:|//[a-z]|@import|<script|<img|<iframe", html, re.IGNORECASE)
    assert set(Page(html).attributes("href")) >= {"data:,"}
    assert all(value.startswith(("#", "data:")) for value in Page(html).attributes("href"))


def test_an_address_in_a_command_stays_plain_text(make_record: MakeRecord) -> None:
    command = "treering train https://example.org/data.csv --text body"
    page = Page(render_html([make_record(command=command)]))
    assert page.codes == [command]
    assert not any(
        "example.org" in value for _, attrs in page.tags for value in attrs.values() if value
    )


def test_a_bar_shows_where_the_time_of_each_layer_went(make_record: MakeRecord) -> None:
    where: dict[str, float] = {
        "data": 5,
        "forward": 30,
        "backward": 40,
        "optimizer": 15,
        "evaluation": 4,
        "checkpoint": 1,
        "rest": 5,
    }
    cost = Cost(wall_seconds=100.0, where=where)
    older = Cost(wall_seconds=60.0, where={"forward": 20, "backward": 30})
    html = render_html([make_record("pr-lstm", cost=cost), make_record("lstm", cost=older)])
    page = Page(html)
    assert [label for label in page.attributes("aria-label") if " of which " in label] == [
        "lstm: 50 s, of which forward 40%, backward 60%",
        "pr-lstm: 1 min 40 s, of which data 5%, forward 30%, backward 40%, optimizer 15%,"
        " evaluation 4%, checkpoint 1%, rest 5%",
    ]
    widths = re.findall(r'class="part-(\w+)" style="width: ([\d.]+)%"', html)
    assert sorted(widths) == sorted(
        [(part, str(float(seconds))) for part, seconds in where.items()]
        + [("forward", "20.0"), ("backward", "30.0")]
    )
    # 600 steps each: of data, forward, backward and optimizer.
    assert {"150 ms a step", "83.3 ms a step"} <= set(re.findall(r"[\d.]+ ms a step", page.text))


def test_every_command_is_there_to_copy(runs: list[Record], make_record: MakeRecord) -> None:
    unfinished = make_record("ql-lstm", 1, None)
    page = Page(render_html([*runs, unfinished]))
    assert set(page.codes) == {run.command for run in [*runs, unfinished]}


def test_hostile_names_are_text(make_record: MakeRecord) -> None:
    hostile = "<script>alert(1)</script>\"'&{{ 7*7 }}"
    html = render_html(
        [
            make_record(
                layer,
                task=hostile,
                command=hostile,
                run_id=hostile,
                score_name=hostile,
                settings={hostile: hostile},
            )
            for layer in (hostile, "lstm")
        ]
        + [make_record(task=hostile + "2")],
        hostile,
    )
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.codes[0] == hostile
    assert hostile in page.text


def test_the_headline_says_who_is_best_and_by_how_much(runs: list[Record]) -> None:
    # pr-lstm 0.99, 0.98, 1.00 against lstm 0.7, 0.8, 0.9: differences 0.29, 0.18, 0.10, mean 0.19,
    # s = 0.0953939, half width 4.302653 * 0.0953939 / sqrt(3) = 0.236973: contains zero.
    text = Page(render_html(runs)).text.replace("\N{NO-BREAK SPACE}", " ")
    assert (
        "pr-lstm scores highest on parity_check, 99.0% ± 2.5, but its lead over lstm, +19.0 points "
        "(95% interval \N{MINUS SIGN}4.7 to +42.7), may be luck of the seeds." in text
    )
    assert "Did not learn, chance being 50.0%: gru (50.0%)." in text


def test_a_sure_lead_is_called_one(make_record: MakeRecord) -> None:
    # Differences 0.30, 0.31, 0.32: half width 4.302653 * 0.01 / sqrt(3) = 0.0248.
    first = [make_record("pr-lstm", seed, 0.90 + 0.01 * seed) for seed in range(3)]
    second = [make_record("lstm", seed, 0.60) for seed in range(3)]
    text = Page(render_html([*second, *first])).text.replace("\N{NO-BREAK SPACE}", " ")
    assert (
        "pr-lstm is best on parity_check: 91.0% ± 2.5, ahead of lstm by 31.0 points "
        "(95% interval +28.5 to +33.5)." in text
    )


def test_when_nothing_learnt_nobody_is_best(make_record: MakeRecord) -> None:
    text = Page(render_html([make_record("lstm", 0, 0.505), make_record("gru", 0, 0.51)])).text
    assert "Nothing learnt parity_check: the best, gru, scores 51.0%, guessing 50.0%." in text
    assert "is best" not in text


def test_equal_scores_are_called_equal(make_record: MakeRecord) -> None:
    runs = [make_record(layer, seed, 1.0) for layer in ("lstm", "gru") for seed in range(2)]
    text = Page(render_html(runs)).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "gru and lstm score the same on parity_check: 100.0% ± 0.0." in text


def test_learning_the_training_lengths_alone_is_said(make_record: MakeRecord) -> None:
    runs = [make_record("lstm", 0, 0.52, trained=1.0), make_record("pr-lstm", 0, 1.0, trained=1.0)]
    text = Page(render_html(runs)).text
    assert (
        "Learnt the training lengths but not the rule: lstm (100.0% in training, 52.0% beyond)."
        in text
    )
    assert "Did not learn" not in text


def test_seeds_that_failed_are_counted(make_record: MakeRecord) -> None:
    runs = [make_record("lstm", seed, score) for seed, score in enumerate([0.9, 0.95, 0.5])]
    assert "1 of 3 seeds of lstm stayed near chance." in Page(render_html(runs)).text


def test_unfinished_runs_are_shown_as_such(runs: list[Record], make_record: MakeRecord) -> None:
    interrupted = make_record("lstm", 3, None)
    running = make_record("ql-lstm", 0, None, status="running")
    html = render_html([*runs, interrupted, running])
    text = Page(html).text
    assert (
        "Not finished, and in no mean: lstm seed 3 (interrupted at step 600) and "
        "ql-lstm seed 0 (running at step 600)." in text
    )
    assert "3 of 4" in text
    assert "0 of 1" in text
    # Loss, accuracy against steps, accuracy against time.
    assert html.count('<g class="unfinished">') == 3 * 2
    assert "80.0%" in text


def test_a_page_of_unfinished_runs_alone_is_a_page(make_record: MakeRecord) -> None:
    text = Page(render_html([make_record(score=None, points=1)])).text
    assert "No run on parity_check has finished." in text
    started = make_record(score=None, learning=[], status="running")
    assert "running at step 0" in Page(render_html([started])).text


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0, 25.0])
def test_lines_lie_within_their_axes(make_record: MakeRecord, scale: float) -> None:
    learning = [
        CurvePoint(step=k, loss=scale * (5 - k), train_score=k / 5, seconds=k) for k in range(1, 5)
    ]
    html = render_html([make_record("lstm", 0, learning=learning)])
    lines = re.findall(r'<g class="series">\s*<path d="([^"]*)"', html)
    assert len(lines) == 4
    for line in lines:
        heights = [float(height) for height in re.findall(r"[ML] \S+ (\S+)", line)]
        assert len(heights) >= 3
        # Units from the top of the drawing: the axes begin at 20 and end 38 above its foot.
        assert all(20 <= height <= HEIGHT - 38 for height in heights)


def test_a_loss_that_is_not_a_number_is_told_and_does_not_break_the_plot(
    make_record: MakeRecord,
) -> None:
    learning = [
        CurvePoint(step=step, loss=loss, train_score=0.5, seconds=step)
        for step, loss in [(1, 0.7), (2, 0.8), (3, float("nan")), (4, float("inf"))]
    ]
    html = render_html([make_record(learning=learning)])
    assert "The loss is not a finite number: lstm seed 0 (from step 3)." in Page(html).text
    assert "nan" not in html.lower()


def test_one_seed_has_no_interval(make_record: MakeRecord) -> None:
    text = Page(render_html([make_record("lstm", 0, 0.7), make_record("gru", 0, 0.8)])).text
    assert "70.0% ±" not in text
    assert "± 95% interval over seeds" in text
    assert text.count("±") == 1
    assert "One seed each: no intervals, so small differences mean nothing." in text


def test_chance_and_training_range_are_drawn(runs: list[Record], make_record: MakeRecord) -> None:
    html = render_html(runs)
    # Accuracy against length, against steps, against time; not on the loss.
    assert html.count('<g class="chance">') == 3
    assert html.count('<g class="trained">') == 1
    assert "trained on 1 to 40" in Page(html).text
    labels = Page(html).attributes("aria-label")
    assert any(
        label.startswith("Accuracy against sequence length on parity_check. pr-lstm 99.0%")
        for label in labels
    )
    dataset = render_html([make_record(kind="dataset", score_name="test accuracy")])
    assert "Accuracy against length" not in dataset
    assert "Validation accuracy against epochs" in dataset
    assert 'class="trained"' not in dataset


def test_every_plot_has_words_for_those_who_cannot_see_it(runs: list[Record]) -> None:
    drawings = [attrs for tag, attrs in Page(render_html(runs)).tags if tag == "svg"]
    assert drawings
    for attrs in drawings:
        assert attrs.get("aria-hidden") == "true" or (
            attrs["role"] == "img" and attrs["aria-label"]
        )


def test_plots_take_their_colours_from_the_page(runs: list[Record]) -> None:
    figures = re.findall(r"<figure>.*?</figure>", render_html(runs), re.DOTALL)
    assert len(figures) == 4
    for figure in figures:
        assert "var(--series-1)" in figure
        # Only black of matplotlib's own shapes may remain, none of the stand-ins.
        assert not re.search(r"#0a0[bc]\w\w", figure)


def test_several_tasks_have_an_overview_that_leads_to_each(
    runs: list[Record], make_record: MakeRecord
) -> None:
    others = [make_record("lstm", seed, 0.5, task="even_pairs") for seed in range(2)]
    html = render_html([*runs, *others])
    page = Page(html)
    links = [value for value in page.attributes("href") if value.startswith("#task")]
    assert len(links) == 2
    assert {link[1:] for link in links} <= set(page.attributes("id"))
    assert "near chance" in page.text
    assert 'id="overview"' not in render_html(runs)


def test_scores_of_different_names_are_not_put_side_by_side(make_record: MakeRecord) -> None:
    page = Page(
        render_html(
            [make_record("lstm"), make_record("gru", score_name="mean accuracy, length 500")]
        )
    )
    assert "parity_check, trained on lengths 1 to 40, mean accuracy, length 500" in page.text
    assert len([name for name in page.attributes("id") if name.endswith("-parity-check")]) == 2


def test_rows_of_one_layer_are_told_apart(make_record: MakeRecord) -> None:
    text = Page(
        render_html(
            [
                make_record("lstm", hidden_size=32),
                make_record("lstm", hidden_size=64),
                make_record("gru"),
            ]
        )
    ).text
    assert "lstm hidden_size=32" in text
    assert "lstm hidden_size=64" in text
    assert "gru hidden_size" not in text


def test_a_seed_run_twice_is_listed_and_not_averaged(make_record: MakeRecord) -> None:
    old = make_record(score=0.6, run_id="old", created="2025-12-01T00:00:00+00:00")
    text = Page(render_html([make_record(score=0.9), old])).text
    assert "lstm scores 90.0% on parity_check, from 1 seed." in text
    assert "1 older run of a seed that ran again is listed under every run, and in no mean." in text
    assert "finished, ran again" in text


def test_environment_settings_and_kernels_are_there(runs: list[Record]) -> None:
    text = Page(render_html(runs)).text
    for fact in ("some processor", "2.10.0", "curriculum.longest", "loop over time in PyTorch"):
        assert fact in text


def test_the_same_records_give_the_same_page_in_any_order(runs: list[Record]) -> None:
    assert render_html(runs) == render_html(runs[::-1])


def test_the_page_does_not_depend_on_the_users_matplotlib_and_leaves_it_alone(
    runs: list[Record],
) -> None:
    before = render_html(runs)
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path"}):
        settings = dict(mpl.rcParams)
        assert render_html(runs) == before
        assert dict(mpl.rcParams) == settings


def test_long_curves_stay_small_and_keep_their_ends(make_record: MakeRecord) -> None:
    html = render_html([make_record(points=5000)])
    assert len(html) < 150_000
    assert re.search(r"Loss against steps on parity_check\. lstm ends at 0\.0002\.", html)


def test_no_records_are_no_report() -> None:
    with pytest.raises(ValueError, match=r"at least one record; find_records\(folder\)"):
        render_html([])


def test_the_page_is_written_whole_or_not_at_all(
    tmp_path: Path, runs: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_html(runs, tmp_path / "new" / "report.html", "A title")
    assert path.read_text(encoding="utf-8") == render_html(runs, "A title")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*report\.html: No space left on device"):
        write_html(runs[:1], path)
    assert path.read_text(encoding="utf-8") == render_html(runs, "A title")
    assert len(list(path.parent.iterdir())) == 1


def test_the_report_imports_neither_torch_nor_pyplot_nor_what_it_does_not_draw() -> None:
    # The package itself imports torch, so a bare stand-in takes its place: what is tested is that
    # neither the report nor anything below it does.
    package = str(Path(treering.report.__file__).parent.parent)
    program = (
        "import sys, types\n"
        "package = types.ModuleType('treering')\n"
        f"package.__path__ = [{package!r}]\n"
        "sys.modules['treering'] = package\n"
        "import treering.report\n"
        "print('matplotlib' in sys.modules)\n"
        "import treering.report.plots, treering.report.inspection\n"
        "print(sorted({'torch', 'matplotlib.pyplot'} & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    # Nor matplotlib, a second of every command's start, before a plot is drawn.
    assert result.stdout == "False\n[]\n"
