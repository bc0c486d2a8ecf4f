"""Backbones whose features the codec can carry, and the files that their weights come from."""
