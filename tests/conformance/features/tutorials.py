"""Models as tutorials for nn.LSTM write them, with the class of the recurrence left open.

Each knows nothing of treering: arguments, shapes and states are used as nn.LSTM documents them.
Legend: T time, B batch, E embedding, H hidden, V vocabulary, C classes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import treering as tr
from conformance.cases import Case
from conformance.features.feature import Absent, feature
from treering.layers import Recurrent

THEME = "Tutorials written for nn.LSTM"
V, E, H, B = 11, 8, 16, 6


class WordLanguageModel(nn.Module):
    """Next-word prediction over one long text, the state carried from batch to batch."""

    def __init__(self, rnn_class: Any, num_layers: int = 2) -> None:
        super().__init__()
        self.encoder = nn.Embedding(V, E)
        self.rnn = rnn_class(E, H, num_layers, dropout=0.1)
        self.decoder = nn.Linear(H, V)
        self.num_layers = num_layers

    def forward(self, tokens: Tensor, hidden: Any) -> tuple[Tensor, Any]:
        output, hidden = self.rnn(self.encoder(tokens), hidden)
        return self.decoder(output), hidden

    def init_hidden(self, batch_size: int) -> tuple[Tensor, Tensor]:
        weight = next(self.parameters())
        shape = (self.num_layers, batch_size, H)
        return weight.new_zeros(*shape), weight.new_zeros(*shape)


def repackage_hidden(hidden: Any) -> Any:
    """The state cut off from its history."""
    if isinstance(hidden, Tensor):
        return hidden.detach()
    return tuple(repackage_hidden(part) for part in hidden)


class Tagger(nn.Module):
    """A tag for each word, of sentences of different lengths, in both directions."""

    def __init__(self, rnn_class: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, E, padding_idx=0)
        self.lstm = rnn_class(E, H, batch_first=True, bidirectional=True)
        self.tag = nn.Linear(2 * H, 3)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.embedding(words), lengths, batch_first=True, enforce_sorted=False
        )
        packed_out, _ = self.lstm(packed)
        out, _ = pad_packed_sequence(packed_out, batch_first=True, total_length=words.shape[1])
        return self.tag(out)


class Translator(nn.Module):
    """An encoder's last state starts the decoder, which is trained on the shifted target."""

    def __init__(self, rnn_class: Any) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(V, E), nn.Embedding(V, E)
        self.encoder = rnn_class(E, H, num_layers=2)
        self.decoder = rnn_class(E, H, num_layers=2)
        self.out = nn.Linear(H, V)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        _, hidden = self.encoder(self.source(source))
        output, _ = self.decoder(self.target(target), hidden)
        return self.out(output)

    def translate(self, source: Tensor, steps: int) -> Tensor:
        _, hidden = self.encoder(self.source(source))
        word, words = torch.ones_like(source[:1]), []
        for _ in range(steps):
            output, hidden = self.decoder(self.target(word), hidden)
            word = self.out(output).argmax(-1)
            words.append(word)
        return torch.cat(words)


class SentimentClassifier(nn.Module):
    """The last layer's final h of both directions, side by side."""

    def __init__(self, rnn_class: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, E, padding_idx=0)
        self.lstm = rnn_class(E, H, num_layers=2, bidirectional=True, dropout=0.1)
        self.fc = nn.Linear(2 * H, 2)

    def forward(self, text: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embedding(text), lengths, enforce_sorted=False)
        _, (hidden, _cell) = self.lstm(packed)
        return self.fc(torch.cat((hidden[-2], hidden[-1]), dim=1))


def language_model(rnn_class: Any) -> Iterator[float]:
    # A text that repeats, so that there is something to learn.
    text = (torch.arange(240) * 3 % 7 + torch.arange(240) % 3).view(B, -1).t()
    model, bptt = WordLanguageModel(rnn_class), 8
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(10):
        hidden, total = model.init_hidden(B), 0.0
        for i in range(0, len(text) - 1, bptt):
            data, targets = text[i : i + bptt], text[i + 1 : i + 1 + bptt]
            data = data[: len(targets)]
            hidden = repackage_hidden(hidden)
            optimizer.zero_grad()
            output, hidden = model(data, hidden)
            loss = F.cross_entropy(output.flatten(0, 1), targets.flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            total += loss.item()
        yield total


def tagger(rnn_class: Any) -> Iterator[float]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([5, 9, 2, 9, 1, 7])
    words = torch.randint(1, V, (B, 9), generator=generator)
    words[torch.arange(9) >= lengths.unsqueeze(1)] = 0
    tags = (words % 3).masked_fill(words == 0, -100)
    model = Tagger(rnn_class)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(8):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(words, lengths).flatten(0, 1), tags.flatten())
        loss.backward()
        optimizer.step()
        yield loss.item()


def translator(rnn_class: Any) -> Iterator[float]:
    source = torch.randint(2, V, (5, B), generator=torch.Generator().manual_seed(0))
    target = torch.cat((torch.ones(1, B, dtype=torch.int64), source.flip(0)))
    model = Translator(rnn_class)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(10):
        optimizer.zero_grad()
        scores = model(source, target[:-1])
        loss = F.cross_entropy(scores.flatten(0, 1), target[1:].flatten())
        loss.backward()
        optimizer.step()
        yield loss.item()
    with torch.no_grad():
        # Word by word the decoder says what it says of the whole target, as long as they agree.
        words = model.translate(source, 1)
        assert torch.equal(words[0], model(source, target[:1])[0].argmax(-1))
        assert model.translate(source, 4).shape == (4, B)


def sentiment(rnn_class: Any) -> Iterator[float]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([5, 9, 2, 9, 1, 7])
    text = torch.randint(1, V, (9, B), generator=generator)
    labels = text[0] % 2
    model = SentimentClassifier(rnn_class)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(8):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(text, lengths), labels)
        loss.backward()
        optimizer.step()
        yield loss.item()


TUTORIALS: dict[str, Callable[[Any], Iterator[float]]] = {
    "language model": language_model,
    "tagger": tagger,
    "translator": translator,
    "sentiment": sentiment,
}


def falls(case: Case, tutorial: Callable[[Any], Iterator[float]]) -> None:
    torch.manual_seed(0)
    losses = list(tutorial(tr.layers.get(case.name)))
    assert losses[-1] < 0.9 * losses[0]


@feature(THEME, "word language model: `init_hidden`, `repackage_hidden`, carried state")
def words(case: Case) -> None:
    falls(case, language_model)


@feature(THEME, "tagger: packed sentences in both directions")
def tags(case: Case) -> None:
    falls(case, tagger)


@feature(THEME, "translator: the encoder's state starts the decoder")
def translation(case: Case) -> None:
    falls(case, translator)


def not_a_pair(layer: type[Recurrent]) -> bool:
    return layer.name not in ("lstm", "ql-lstm", "nonlinear-gate-lstm")


def without_a_pair(case: Case) -> None:
    """Unpacking fails at once, and `reduce` is what the model was after."""
    with pytest.raises(ValueError, match="values to unpack"):
        next(sentiment(tr.layers.get(case.name)))
    layer, lengths = case.build(num_layers=2, bidirectional=True), torch.tensor([4, 7, 1])
    x = torch.randn(7, 3, 2, dtype=torch.float64)
    _, state = layer(x, lengths=lengths)
    h = getattr(state, "last", state).h
    torch.testing.assert_close(layer.reduce(x, lengths), torch.cat((h[-2], h[-1]), dim=1))


@feature(
    THEME,
    "classifier: `_, (h_n, c_n) = rnn(packed)`, then `h_n[-2]` and `h_n[-1]`",
    Absent(
        not_a_pair,
        without_a_pair,
        "its state is no pair, unpacking it fails at once; `rnn.reduce(packed)` is what is meant",
    ),
)
def classifier(case: Case) -> None:
    falls(case, sentiment)
