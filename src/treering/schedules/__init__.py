"""How a cell runs along time: the order of the calls, and nothing about gates or weights."""
