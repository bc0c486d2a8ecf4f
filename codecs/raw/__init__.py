"""Raw: the frames themselves, lossless; for tests and as the upper bound."""
