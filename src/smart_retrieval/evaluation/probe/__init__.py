"""Does SMART help a model on these data, and why.

``probe.probe`` is the way in: `statistics` has intervals and bins, `tokens` counts which tokens match, `verdict`
puts the figures into words; `table`, `plots` and `page` draw them.
"""
