"""MMEB-V2: 78 tasks of images, video and visual documents, measured with one command.

- ``tasks``: the 78 tasks as data (``tasks.toml``), and their choice by name or modality.
- ``annotations``, ``task_data``: what lies below the data root, and a task's queries and candidates.
- ``parsers``, ``prompts``: a parser for each format of annotations; the two published ways of wording an input.
- ``keys``, ``store``, ``processes``: encodings on disk, each distinct input once, shared by several processes.
- ``ranking``, ``metrics``: scores in blocks, straight from the store; the metrics of a ranking.
- ``run``, ``report``: everything together; the files and the table that come out.
- ``layers``: the whole once more for each layer, and its plot.
- ``hub``: which commits the annotations are of, and their download.
"""
