"""One reader a file format; those that are much alike in one file."""
