"""The papers' methods as short orchestration over an `AdapterTrainer`."""
