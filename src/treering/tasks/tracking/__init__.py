"""Generated tasks with an answer at every symbol: a state to track, or pairs to recall.

They ask for what a recurrence has and parallel models of fixed depth lack (state tracking: Merrill,
Petty, Sabharwal, "The Illusion of State in State-Space Models", ICML 2024; Liu et al.,
"Transformers Learn Shortcuts to Automata", ICLR 2023), and for what a recurrence has little of
(recall: Arora et al., "Zoology", ICLR 2024). Answers are read along the input, by a `Tagger`.
"""
