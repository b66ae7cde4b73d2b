"""The same checks on nn.LSTM, torchrecurrent, minGRU-pytorch and treering: docs/peers.md."""
