"""A run's own task and test once more, from the command that its record holds."""

import shlex

import torch
from torch import nn

from treering.cli.runs import Protocol, prepare
from treering.records import Record
from treering.training.kinds import kind_of


def protocol_of(record: Record) -> Protocol:
    """The run's task with its data and settings, from the command that its record holds.

    UserError if the task cannot be had again, because its files are gone for instance.
    """
    from treering.cli import application

    words = shlex.split(record.command)[1:]
    # Nothing is run: the parser is asked what the command's options are.
    _, bound, _ = application("train").parse_args(words, exit_on_error=False, print_error=False)
    given = bound.arguments
    return prepare(
        given["task"],
        given.get("task_options"),
        given.get("model_options"),
        given.get("training_options"),
        None,
    )


def tested(record: Record, model: nn.Module) -> float:
    """The score that `model` gets on the test of the record's run.

    UserError if the task cannot be had again, because its files are gone for instance.
    """
    protocol = protocol_of(record)
    kind = kind_of(model, protocol.task, protocol.settings, record.seed, torch.device("cpu"))
    return kind.test(lambda _: None).score
