"""Measuring retrieval: metrics, significance, BEIR folders, cached encodings and the report.

One concept a file, and nothing is imported before it is asked for:

- ``metrics``: nDCG@10, Recall@100, MRR@10 and MAP of each query; the ranking with its tie rule.
- ``significance``: paired randomisation test and bootstrap interval of one system against another.
- ``beir``: a BEIR-layout folder, read strictly.
- ``cache``: encodings kept on disk under a key of everything that shapes them.
- ``evaluate``: a folder and a model in, one result object out.
- ``report``: that object as a table.
"""
