"""A study so small that a trial takes a second: four users, the embedded base, random proposals."""

from __future__ import annotations

from pathlib import Path

STUDY = """\
name: small
space: {space}
data:
  targets: 3
  population: {{users: 4, communities: 2, topics: 3, longest: 8, shortest: 8}}
  validation: 0.25
  test: 0.25
objectives:
  - {{metric: loss, direction: minimize, reference: 10.0}}
  - {{metric: trainable_params, direction: minimize, reference: 100000}}
metrics: {metrics}
proposer: random
initial_trials: 2
budget: {{trials: {trials}}}
batch: 1
training:
  learning_rate: 5.0e-3
  tuning_epochs: 1
  global_steps: 2
  max_length: 96
  max_new_tokens: 4
dispatch: {{parallel: {parallel}, device: cpu}}
test_seeds: [7]
"""

SPACE = """\
name: small_space
layers: auto
dimensions:
  lora_rank: [1, 2, 4]
  ffn_layer_mask: [0, 0, 0, 0, 0, 0, 1, 1]
  time_splits: [1, 2]
  retrieved_items: [0, 1]
  communities: [1, 2]
"""


def small_study(folder: Path, *, trials: int = 3, parallel: int = 1, metrics: str = "[]") -> Path:
    """Writes the study and its space into a folder and returns the study file."""
    (folder / "space.yaml").write_text(SPACE)
    text = STUDY.format(space="space.yaml", trials=trials, parallel=parallel, metrics=metrics)
    file = folder / "study.yaml"
    file.write_text(text)
    return file
