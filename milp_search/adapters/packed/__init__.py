"""Trains and answers with many adapters in one pass over the frozen base.

A lane is one adapter in training, or one stack of adapters that answers: a user or a community
under a plan. `stack` reads the frozen weights, `rows` lays examples side by side, `factors` holds
the lanes' low-rank matrices, `sublayers` and `head` compute forward and backward, `prefix` keeps
hidden states, `training` and `answering` put them together, `memory` says how much fits, and
`trainer` is the `AdapterTrainer`.
"""
