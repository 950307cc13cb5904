"""What several benchmarks use: recording a result, synthetic documents, trainings of the glyph example."""
