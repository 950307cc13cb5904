"""Indexes on engines that people run already: the documents there, codes beside their anchors, the scores of SMART."""
