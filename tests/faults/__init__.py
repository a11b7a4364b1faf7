"""The fault matrix: what becomes of a study when things break."""
