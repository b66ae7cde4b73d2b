"""What a trained recurrence does: gradients, gates, memory, spectra, brackets, probes.

Each measure is a function of a model and a batch in a file of its own and returns parts of
`record.Inspection`, which `treering inspect` writes and the report draws.
"""
