"""Measuring retrieval: metrics, significance, BEIR folders, cached encodings, and what is done with them.

One concept a file, and nothing is imported before it is asked for:

- ``metrics``: nDCG@10, Recall@100, MRR@10 and MAP of each query; the ranking with its tie rule.
- ``significance``: paired randomisation test and bootstrap interval of one system against another.
- ``beir``: a BEIR-layout folder, read strictly; ``sampling``: a smaller one; ``known_item``: queries without labels.
- ``cache``, ``encode``: encodings kept on disk under a key of everything that shapes them.
- ``evaluate``, ``compare``, ``codecs``: a folder and a model in, one result object out; ``terminal`` draws it.
- ``sweep``: every layer encoded once, for ``probing`` and ``tuning``.
- ``provenance``: where a figure comes from; ``reports``: result files side by side.
- ``mteb_adapter``, ``mteb_index``, ``mmeb``: other people's benchmarks.
"""
