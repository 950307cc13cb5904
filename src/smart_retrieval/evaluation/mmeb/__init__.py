"""MMEB-V2: 78 tasks of images, video and visual documents, measured with one command.

- ``tasks``: the 78 tasks as data (``tasks.toml``), and their choice by name or modality.
- ``layout``: where annotations, pictures and frames lie below the data root.
- ``parsers``: from each format's annotations to queries, candidates and labels.
- ``prompts``: the two published ways of wording an input.
- ``metrics``, ``ordering``: what a ranking is worth, and how ties are broken.
- ``store``: encodings on disk, each distinct input once.
- ``ranking``: scores in blocks, straight from the store.
- ``runner``: everything together; ``run`` measures a task, ``report`` writes what came out.
- ``hub``: fetches annotations, when asked to.
"""
