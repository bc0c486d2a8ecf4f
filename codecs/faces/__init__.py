"""The codec `dicm+hsc`: frames as DICM codes them, and the faces in them as HSC does."""
