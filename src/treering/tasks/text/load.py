"""The user's own file as a task."""

import os
from pathlib import Path

from treering._errors import UserError
from treering.tasks.text.dataset import TextTask, hold_out, make_task, same_text_key, select
from treering.tasks.text.files import read_rows


def load_file(
    path: str | os.PathLike[str],
    text_column: str,
    label_column: str,
    *,
    max_tokens: int = 128,
    max_words: int | None = None,
    min_tokens: int | None = None,
    seed: int = 0,
    test_path: str | os.PathLike[str] | None = None,
) -> TextTask:
    """A .csv, .tsv or .jsonl file (or .gz) as a classification task.

    The rows are split 80/10/10 into train, validation and test, stratified by label, drawn
    by `seed`; rows of equal text (case and blanks aside) stay in one split. With `test_path`,
    a file with the same columns, that is the test split, training rows whose text occurs in
    it are left out (`TextTask.left_out` counts them), and `path` is split 90/10. The first
    `max_tokens` words of a text are kept; with `min_tokens` a shorter text is repeated until it
    has so many. The vocabulary has the `max_words` commonest words (None: all) of the training
    split alone; others are the unknown word. `chance` is the share in `test` of the commonest
    training label.

    Needs about 10 bytes of memory per byte of file. UserError for a file, row or column that
    cannot be used; it names file and line.
    """
    rows = read_rows(path, text_column, label_column)
    left_out = 0
    if test_path is None:
        train, test, validation = hold_out(rows, (0.1, 0.1), seed)
    else:
        test = read_rows(test_path, text_column, label_column)
        seen = {same_text_key(text) for text in test.texts}
        fresh = [i for i, text in enumerate(rows.texts) if same_text_key(text) not in seen]
        left_out = len(rows.texts) - len(fresh)
        if not fresh:
            raise UserError(
                f"{test_path} has every text of {path}; nothing is left to train on: give a test "
                "file of other texts, or none to hold out a tenth"
            )
        train, validation = hold_out(select(rows, fresh), (0.1,), seed)
    return make_task(
        Path(path).name,
        train,
        validation,
        test,
        max_tokens=max_tokens,
        max_words=max_words,
        min_tokens=min_tokens,
        left_out=left_out,
    )
