"""Post-training: pairs, objectives, cached states, the adapter and fine-tuning recipes."""
