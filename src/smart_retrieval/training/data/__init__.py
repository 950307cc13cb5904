"""Training examples: read, checked, split, batched, mined for hard negatives."""
