"""Training pairs: read, checked, batched, mined for hard negatives."""
