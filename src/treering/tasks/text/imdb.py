"""IMDB: 50,000 film reviews, positive or negative, half of them for testing.

Maas, Daly, Pham, Huang, Ng, Potts, "Learning Word Vectors for Sentiment Analysis" (ACL 2011);
distributed for research, the texts belong to their writers. Either as published, an archive with
one file a review, or as two files train.tsv and test.tsv with one review a line:
`label<TAB>id<TAB>rating<TAB>text`.
"""

import gzip
import re
import tarfile
import zlib
from pathlib import Path

from treering._errors import UserError
from treering.tasks.text import locate
from treering.tasks.text.dataset import TextTask, hold_out, make_task
from treering.tasks.text.files import Rows, read_text

FOLDER = "imdb"
ARCHIVE = "aclImdb_v1.tar.gz"
ADDRESS = f"https://ai.stanford.edu/~amaas/data/sentiment/{ARCHIVE}"
SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"

_REVIEW = re.compile(r"aclImdb/(train|test)/(neg|pos)/(\d+)_(\d+)\.txt")
_FORMAT = "IMDB has label<TAB>id<TAB>rating<TAB>text on each line, with label neg or pos"


def load_imdb(
    *,
    max_tokens: int = 500,
    max_words: int | None = 20_000,
    min_tokens: int | None = None,
    seed: int = 0,
) -> TextTask:
    """IMDB as a task: the first `max_tokens` words of a review, the official test split.

    A tenth of the training reviews, stratified and drawn by `seed`, is the validation split; the
    vocabulary, the `max_words` commonest words, comes from the other nine tenths. HTML line breaks
    become blanks. 123 texts of the official split occur in both train and test; they are kept, as
    published numbers include them.

    With `min_tokens`, a review of fewer words is repeated until it has so many: how far back the
    words lie that decide grows, what is said does not. This is our reading of the "extended
    document lengths" of arXiv 2512.06582, whose own way is not public.

    Looks for train.tsv and test.tsv, plain or .gz, in $TREERING_DATA/imdb, then in the user's cache
    folder; then for the published archive there; then downloads it, 84 MB. The archive is read as
    it is, never unpacked to the disk. UserError if that fails or a file has another format.
    """
    train_and_validation, test = _read()
    train, validation = hold_out(train_and_validation, (0.1,), seed)
    return make_task(
        "imdb",
        train,
        validation,
        test,
        max_tokens=max_tokens,
        max_words=max_words,
        min_tokens=min_tokens,
    )


def _read() -> tuple[Rows, Rows]:
    """Rows of train and test, each in the order of label and number."""
    train, test = (locate.find(FOLDER, f"{part}.tsv") for part in ("train", "test"))
    if train is not None and test is not None:
        return read_lines(train), read_lines(test)
    return read_archive(locate.obtain(FOLDER, ARCHIVE, ADDRESS, SHA256))


def read_lines(path: Path) -> Rows:
    """Rows of a file with one review a line; UserError with the line for anything else."""
    rows = Rows(path, [], [], [])
    for line, content in enumerate(read_text(path).removesuffix("\n").split("\n"), start=1):
        # A text may have tabs of its own.
        fields = content.split("\t", 3)
        if (
            len(fields) < 4
            or fields[0] not in ("neg", "pos")
            or not all(field.isdecimal() for field in fields[1:3])
        ):
            raise UserError(f"{path}, line {line}: {content[:40]!r}; {_FORMAT}")
        _add(rows, line, f"line {line}", fields[0], fields[3])
    return rows


def read_archive(path: Path) -> tuple[Rows, Rows]:
    """Rows of train and test from the published archive; `lines` counts its reviews.

    UserError if it is not the published one, which its checksum says.
    """
    locate.check(path, ADDRESS, SHA256)
    try:
        found = _members(path)
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror or error}") from None
    parts = {part: Rows(path, [], [], []) for part in ("train", "test")}
    for line, (part, label, number, rating) in enumerate(sorted(found), start=1):
        name = f"aclImdb/{part}/{label}/{number}_{rating}.txt"
        _add(parts[part], line, name, label, found[part, label, number, rating])
    return parts["train"], parts["test"]


def _members(path: Path) -> dict[tuple[str, str, int, int], str]:
    """Texts of the labelled reviews by part, label, number and rating."""
    found: dict[tuple[str, str, int, int], str] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                name = _REVIEW.fullmatch(member.name)
                file = archive.extractfile(member) if name and member.isfile() else None
                if name is None or file is None:
                    continue
                part, label, number, rating = name.groups()
                found[part, label, int(number), int(rating)] = file.read().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: a review is not UTF-8 ({error.reason})") from None
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged or not a gzipped tar archive ({error})") from None
    return found


def _add(rows: Rows, line: int, where: str, label: str, text: str) -> None:
    text = text.replace("<br />", " ")
    if not text.strip():
        raise UserError(f"{rows.path}, {where}: the text is empty; delete the review")
    rows.texts.append(text)
    rows.labels.append(label)
    rows.lines.append(line)
