"""Training an adapter over a frozen backbone, and reading the paper's own."""
