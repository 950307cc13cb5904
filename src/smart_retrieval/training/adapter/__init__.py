"""Training an adapter over a frozen backbone."""
