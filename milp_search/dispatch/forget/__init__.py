"""Forgets a user everywhere in a folder, and proves it by a search."""
