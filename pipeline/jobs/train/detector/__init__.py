"""Fitting the shipped detector on features to labelled pictures."""
