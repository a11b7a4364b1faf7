"""What the tests of the study share: objectives, a model's shape and a told study."""

from __future__ import annotations

from collections.abc import Callable

from milp_search.core.model_shape import LinearMap, ModelShape
from milp_search.core.trial import Measurement, Objective
from milp_search.study.study import Study

GOALS = (Objective("loss", "minimize", 3.0), Objective("rouge_l", "maximize", 0.0))

# Two maps of 8 + 24 each: 64 parameters a rank.
SHAPE = ModelShape(
    4,
    "model.layers",
    (LinearMap("up", "mlp.up", 8, 24), LinearMap("down", "mlp.down", 24, 8)),
)

Make = Callable[..., Study]


def tell_many(study: Study, count: int = 10) -> None:
    """Tells trials whose loss falls and whose ROUGE-L rises and falls; the third one fails."""
    for number in range(count):
        trial = study.ask()
        if number == 2:
            study.fail(trial.index, "boom <script>", "out_of_memory")
            continue
        measurements: dict[str, Measurement | float] = {
            "loss": Measurement(2.9 - 0.2 * number, 0.01),
            "rouge_l": Measurement(0.1 * (number if number < 6 else 10 - number) + 0.05, 0.02),
            "rouge_1": 1 / 3,
        }
        study.tell(trial.index, measurements, duration_s=0.1)
