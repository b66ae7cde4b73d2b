"""Time and memory beside those of peers, after the numbers have been compared.

`record` is what a measurement leaves behind and needs no PyTorch; `rows` says what is measured.
"""
