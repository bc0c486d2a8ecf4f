"""Heads that find objects in a codec's features."""
