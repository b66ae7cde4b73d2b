"""LSTM successors for PyTorch."""
