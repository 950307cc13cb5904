"""Commands for more than one index or machine."""
