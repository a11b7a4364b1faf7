"""Runs plans, in this process or through Ray Tune; the only place that knows both halves."""
