"""What treering is measured beside: one adapter each.

Each says whether it is here, and otherwise why not and what to do.
"""
