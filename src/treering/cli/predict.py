"""`treering predict`: a trained model's answers, one line out for each line in."""

import json as json_format
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from treering._errors import UserError
from treering.cli.answers import Continuation, batches, respondent_of
from treering.cli.options import Flag, NotNegative, Seed, Whole
from treering.cli.streams import standard_output

AT_A_TIME = 64


def predict_(
    model: Path,
    file: Path | None = None,
    /,
    *,
    tokens: Whole = 80,
    temperature: NotNegative = 0.0,
    seed: Seed = 0,
    json: Flag = False,
) -> None:
    """Answer every line of a file, or of standard input, with one line.

    Example: treering predict runs/reviews.csv/lstm/seed0-1a2b3c new.txt

    Another: tail -f log.txt | treering predict model.onnx

    A classifier answers with the label and its probability; a language model goes on with the
    text, line ends written \\n; a model of a generated task with its outputs, and whether they are
    right. A line without words is answered by an empty one.

    Parameters
    ----------
    model
        The folder of a run, as `treering train` prints it, or an .onnx file of `treering export`.
    file
        Text in UTF-8, one input a line; without it standard input, answered line by line.
    tokens
        How many tokens a language model adds.
    temperature
        0 takes the likeliest token, 1 draws as the model says.
    seed
        Of the tokens drawn.
    json
        Write each answer as one line of JSON.
    """
    respondent = respondent_of(model)
    on = Continuation(tokens, temperature, torch.Generator().manual_seed(seed))
    with standard_output():
        number = 0
        # Who types, or pipes a log, waits for the answer to each line.
        for batch in batches(_lines(file), 1 if file is None else AT_A_TIME):
            for answer in respondent.answers(batch, on):
                number += 1
                if answer is None:
                    print(f"treering: line {number} has no words", file=sys.stderr)
                if json:
                    data = None if answer is None else answer.data
                    print(json_format.dumps(data, ensure_ascii=False))
                else:
                    print("" if answer is None else answer.line)
            sys.stdout.flush()


def _lines(file: Path | None) -> Iterator[str]:
    name = "standard input" if file is None else str(file)
    number = 0
    try:
        if file is None:
            sys.stdin.reconfigure(encoding="utf-8")  # pyright: ignore[reportAttributeAccessIssue]
            for number, line in enumerate(sys.stdin, 1):  # noqa: B007  (named in the error)
                yield line
            return
        with file.open(encoding="utf-8") as opened:
            for number, line in enumerate(opened, 1):  # noqa: B007
                yield line
    except UnicodeDecodeError:
        raise UserError(f"{name}: after line {number} comes text that is not UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from None
