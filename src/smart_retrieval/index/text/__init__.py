"""Texts as an index compares them: characters folded, and what their language decides."""
