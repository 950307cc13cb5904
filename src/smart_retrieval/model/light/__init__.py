"""Queries of text models encoded without Sentence Transformers: a graph exported once, kept in the user's cache."""
