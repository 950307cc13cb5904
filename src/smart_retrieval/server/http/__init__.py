"""The HTTP API: routes, what they take and answer, and what every request passes before them."""
