"""``smart serve``: what answers others."""
