"""Model families: how each is found, loaded, pooled, prompted, and how it marks the roles of its tokens."""
