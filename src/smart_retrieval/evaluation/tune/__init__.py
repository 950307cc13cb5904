"""The best readout and scoring for some data, by cross-validation.

``tune.tune`` is the way in: `grid` lists what is tried, `write` keeps the choice in a model's folder,
`table` draws the result.
"""
