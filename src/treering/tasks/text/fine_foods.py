"""Amazon Fine Food Reviews: texts with a score of 1 to 5 stars.

McAuley, Leskovec, "From amateurs to connoisseurs: modeling the evolution of user expertise through
online reviews" (WWW 2013); 568,454 reviews, published as Reviews.csv in Kaggle's data set
snap/amazon-fine-food-reviews, behind a login.
"""

from treering._errors import UserError
from treering.tasks.text import locate
from treering.tasks.text.dataset import TextTask, hold_out, make_task, same_text_key, select
from treering.tasks.text.files import Rows, read_rows

FOLDER = "amazon_fine_foods"
NAMES = ("reviews.csv", "Reviews.csv")
SCORES = ("1", "2", "3", "4", "5")
FEWER, BEST = "fewer", "five stars"


def load_fine_foods(
    *,
    max_tokens: int = 32,
    max_words: int | None = None,
    min_tokens: int | None = None,
    binary: bool = False,
    seed: int = 0,
) -> TextTask:
    """Amazon Fine Food Reviews as a task: the score from the first `max_tokens` words.

    Of reviews with the same text (case and blanks aside), which the file has for variants of one
    product, only the first counts. There is no official split: a tenth of the rest is for
    validation and a fifth for testing, stratified by score and drawn by `seed`; scores of
    different splits do not compare. HTML line breaks become blanks. With `min_tokens`, a text of
    fewer words is repeated until it has so many.

    binary: five stars, which three in five reviews have, or fewer.

    Looks for reviews.csv or Reviews.csv, plain or .gz, with columns Text and Score, in
    $TREERING_DATA/amazon_fine_foods, then in the user's cache folder. It is not downloaded: it has
    no address without a login. UserError if it is not there or has other scores.
    """
    found = (locate.find(FOLDER, name) for name in NAMES)
    path = next((path for path in found if path is not None), None)
    if path is None:
        raise UserError(
            f"no {FOLDER}/{NAMES[0]} in ${locate.VARIABLE} or {locate.cache_folder()}; get"
            " Reviews.csv of Kaggle's data set snap/amazon-fine-food-reviews and put it at"
            f" {locate.cache_folder() / FOLDER / NAMES[0]}"
        )
    rows = _distinct(read_rows(path, "Text", "Score"))
    if binary:
        rows.labels[:] = [BEST if score == SCORES[-1] else FEWER for score in rows.labels]
    train, validation, test = hold_out(rows, (0.1, 0.2), seed)
    return make_task(
        "fine-foods-binary" if binary else "fine-foods",
        train,
        validation,
        test,
        max_tokens=max_tokens,
        max_words=max_words,
        min_tokens=min_tokens,
    )


def _distinct(rows: Rows) -> Rows:
    """The first row of each text, without line breaks."""
    first: dict[str, int] = {}
    for index, (text, score, line) in enumerate(
        zip(rows.texts, rows.labels, rows.lines, strict=True)
    ):
        if score not in SCORES:
            raise UserError(f"{rows.path}, line {line}: Score is {score!r}; write 1 to 5")
        first.setdefault(same_text_key(text), index)
    kept = select(rows, list(first.values()))
    kept.texts[:] = [text.replace("<br />", " ") for text in kept.texts]
    return kept
