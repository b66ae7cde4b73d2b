"""Speed for particular pairs of cell and schedule: tensors in, tensors out."""
