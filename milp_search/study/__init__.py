"""The study: its file, its events on disk, ask and tell, export and report."""
