"""Turns a data set into chronological user histories and leak-free splits; one file per format."""
