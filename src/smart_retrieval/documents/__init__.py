"""Files to passages: find files, read their text into sections, cut sections into passages."""
