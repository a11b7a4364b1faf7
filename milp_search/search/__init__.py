"""Proposes arms from finished trials, and measures fronts and hypervolume.

Nothing heavy is imported here; `proposers`, `pareto` and `ax_bridge` are imported where used.
"""
