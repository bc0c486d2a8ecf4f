"""Same bits everywhere: integer networks, frequency tables, and the coder of one rANS stream a frame."""
