"""Token vectors in few bytes: names, fitting, coding and scoring straight from codes."""
