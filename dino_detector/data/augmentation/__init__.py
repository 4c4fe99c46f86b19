"""Training images changed at random, by nothing but the seed, the epoch and the image."""
