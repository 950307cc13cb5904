"""Demo data: test collections built from what every machine already has."""
