"""The tables and figures of the papers, each made of studies."""
