"""The mathematics: one step or one merge of each recurrence, on explicit weights."""
