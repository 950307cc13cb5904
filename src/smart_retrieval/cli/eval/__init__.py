"""smart eval: BEIR folders, MMEB-V2 and mteb."""
