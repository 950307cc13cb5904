"""The method: readout of hidden states, late interaction, hybrid scores. Knows arrays, not models."""
