"""Fine foods: equal texts count once, splits by score, no download."""

import csv
import gzip
import io
from collections import Counter
from pathlib import Path

import pytest
import torch

from treering._errors import UserError
from treering.tasks.text import TextTask, load_fine_foods, locate

HEADER = ("Id", "Text", "Score")
# Every text twice, as for two sizes of one product; every third has a line break.
ROWS = [
    (f"{i}", f"product {i // 2}{'<br />good' if i % 3 == 0 else ' good'}", f"{i // 2 % 5 + 1}")
    for i in range(200)
]


def table(*rows: tuple[str, ...]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([HEADER, *rows])
    return buffer.getvalue().encode()


def put(folder: Path, content: bytes, name: str = "reviews.csv.gz") -> Path:
    path = folder / "amazon_fine_foods" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


def texts(task: TextTask) -> list[str]:
    words = ("", "?", *task.vocabulary.words)
    parts = (task.train, task.validation, task.test)
    rows = [row for part in parts for row in part.tokens.tolist()]
    return [" ".join(words[i] for i in row if i) for row in rows]


@pytest.mark.parametrize("name", ["reviews.csv", "reviews.csv.gz", "Reviews.csv"])
@pytest.mark.parametrize("where", ["variable", "cache"])
def test_found_on_disk(tmp_path: Path, cache: Path, monkeypatch, name: str, where: str):
    folder = cache if where == "cache" else tmp_path / "data"
    put(folder, table(*[row for row in ROWS if row[1].endswith(" good")]), name)
    if where == "variable":
        monkeypatch.setenv(locate.VARIABLE, str(folder))
    task = load_fine_foods()
    assert (task.name, task.labels) == ("fine-foods", ("1", "2", "3", "4", "5"))
    sizes = [part.labels.bincount().tolist() for part in (task.train, task.validation, task.test)]
    assert sizes == [[14] * 5, [2] * 5, [4] * 5]
    assert task.chance == 0.2


def test_five_stars_or_fewer(cache: Path):
    put(cache, table(*[row for row in ROWS if row[1].endswith(" good")]))
    task = load_fine_foods(binary=True)
    assert (task.name, task.labels) == ("fine-foods-binary", ("fewer", "five stars"))
    sizes = [part.labels.bincount().tolist() for part in (task.train, task.validation, task.test)]
    assert sizes == [[56, 14], [8, 2], [16, 4]]
    numbers = [row.split()[1] for row in texts(task)]
    stars = torch.cat([part.labels for part in (task.train, task.validation, task.test)]).tolist()
    told = {number: star for number, star in zip(numbers, stars, strict=True) if number != "?"}
    assert told == {number: int(int(number) % 5 == 4) for number in told}
    assert len(told) > 50


def test_equal_texts_count_once(cache: Path):
    # Copies differ in case and blanks; the first one's score counts.
    copies = [(f"x{i}", f"PRODUCT  {i} good", "5") for i in range(100)]
    only = [row for row in ROWS if row[1].endswith(" good")]
    put(cache, table(*only, *copies))
    task = load_fine_foods()
    assert sum(len(part.labels) for part in (task.train, task.validation, task.test)) == 100
    seen = Counter(text for text in texts(task) if "?" not in text)
    assert set(seen.values()) == {1}
    assert task.chance == 0.2


def test_line_breaks_are_blanks(cache: Path):
    put(cache, table(*ROWS))
    assert not {"<", "br", "/>"} & set(load_fine_foods().vocabulary.words)


def test_options(cache: Path):
    put(cache, table(*ROWS))
    assert load_fine_foods(max_tokens=2).train.tokens.shape[1] == 2
    assert set(load_fine_foods(min_tokens=7).test.lengths.tolist()) == {7}
    assert load_fine_foods(max_words=2).vocabulary.words == ("good", "product")
    first, again, other = load_fine_foods(), load_fine_foods(), load_fine_foods(seed=1)
    assert torch.equal(first.test.tokens, again.test.tokens)
    assert first.vocabulary.words != other.vocabulary.words


def test_another_score_is_refused_by_its_line(cache: Path):
    put(cache, table(*ROWS[:3], ("3", "product", "6")))
    with pytest.raises(UserError, match=r"reviews\.csv\.gz, line 5: Score is '6'; write 1 to 5"):
        load_fine_foods()


def test_absent_is_told_with_where_it_is_had_and_where_it_goes(cache: Path):
    with pytest.raises(UserError, match=r"snap/amazon-fine-food-reviews and put it at") as caught:
        load_fine_foods()
    assert str(cache / "amazon_fine_foods" / "reviews.csv") in str(caught.value)
    assert "\n" not in str(caught.value)
