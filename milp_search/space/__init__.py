"""Search spaces: reads them from YAML, lists their parameters, turns arms into plans."""
