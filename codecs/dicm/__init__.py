"""DICM: features for machines, compressed (Tang, Yi, Wang, IEEE Trans. Broadcasting 2025)."""
