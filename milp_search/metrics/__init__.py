"""Turns predictions into numbers with standard errors; one file per family of metrics."""
