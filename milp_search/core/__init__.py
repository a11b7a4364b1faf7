"""The nouns of milp-search and its error tree; imports nothing but the standard library."""
