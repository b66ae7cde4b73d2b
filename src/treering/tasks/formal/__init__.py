"""The fifteen formal-language tasks of Deletang et al., "Neural Networks and the Chomsky
Hierarchy" (ICLR 2023), one file each, with the benchmark's own symbols and numbering.

Definitions follow the published code (google-deepmind/neural_networks_chomsky_hierarchy,
commit 2b8eb4be), including where its comments say otherwise; the code here is our own.
"""
