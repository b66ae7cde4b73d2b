"""Models of tutorials with tr.LSTM learn, number by number, what they learn with nn.LSTM.

That they learn with every other layer is a feature of the table in docs/features.md.
"""

import pytest
import torch
from torch import nn

import treering as tr

from .features.tutorials import TUTORIALS


@pytest.mark.parametrize("name", TUTORIALS)
@pytest.mark.usefixtures("float64")
def test_the_same_losses_as_with_nn_lstm(name: str):
    losses = []
    for rnn_class in (nn.LSTM, tr.LSTM):
        torch.manual_seed(0)
        losses.append(list(TUTORIALS[name](lambda *sizes, c=rnn_class, **o: quiet(c, *sizes, **o))))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-9, atol=0)
    assert losses[0][-1] < 0.9 * losses[0][0]


def quiet(rnn_class: type[nn.Module], *sizes: int, **options: object) -> nn.Module:
    """Without dropout, whose masks the two draw differently."""
    return rnn_class(*sizes, **{**options, "dropout": 0.0})
