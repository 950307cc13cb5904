"""The measuring commands: smart eval, probe, tune, report."""
