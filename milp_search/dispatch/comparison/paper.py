"""The papers' own numbers, for a column beside ours: other hardware, models and data.

Values are in the units of our metrics: ROUGE and shares from 0 to 1, persona F1 in percent.
"""

from __future__ import annotations

from collections.abc import Mapping

from milp_search.core.errors import SpecError
from milp_search.space.suggestion import suggestion
from milp_search.study.spec import StudySpec

Values = Mapping[str, Mapping[str, float]]
"""Row label to metric to value."""

LAMP = ("LaMP_2N", "LaMP_2M", "LaMP_3", "LaMP_4", "LaMP_5")
MILP = ("AmazonQA", "Reddit", "MedDia")

_LAMP_METRICS = {
    "LaMP_2N": ("accuracy", "macro_f1"),
    "LaMP_2M": ("accuracy", "macro_f1"),
    "LaMP_3": ("mae", "rmse"),
    "LaMP_4": ("rouge_1", "rouge_l"),
    "LaMP_5": ("rouge_1", "rouge_l"),
}

# LoGo, Table 1 (LLaMA-3.1-8B), two numbers for each column of `LAMP`.
_LOGO_1 = {
    "Base model": (0.791, 0.536, 0.542, 0.503, 0.277, 0.543, 0.203, 0.183, 0.522, 0.457),
    "Base model + random": (0.802, 0.577, 0.569, 0.506, 0.232, 0.530, 0.208, 0.186, 0.520, 0.465),
    "OPPU": (0.807, 0.606, 0.702, 0.612, 0.218, 0.467, 0.216, 0.195, 0.519, 0.465),
    "OPPU + RAG": (0.817, 0.580, 0.588, 0.524, 0.223, 0.509, 0.205, 0.185, 0.521, 0.468),
    "OPPU + PAG": (0.814, 0.608, 0.581, 0.528, 0.250, 0.582, 0.208, 0.187, 0.513, 0.453),
    "HYDRA": (0.780, 0.401, 0.540, 0.458, 0.400, 0.747, 0.178, 0.169, 0.434, 0.372),
    "PER-PCS": (0.804, 0.539, 0.679, 0.583, 0.251, 0.494, 0.205, 0.185, 0.520, 0.471),
    "P2P": (0.716, 0.613, 0.442, 0.408, 0.383, 0.670, 0.160, 0.145, 0.490, 0.431),
    "LoGo (c = 1)": (0.824, 0.611, 0.710, 0.630, 0.188, 0.453, 0.216, 0.196, 0.516, 0.470),
    "LoGo + RAG (c = 1)": (0.828, 0.614, 0.724, 0.642, 0.161, 0.443, 0.214, 0.194, 0.526, 0.477),
    "LoGo + PAG (c = 1)": (0.842, 0.627, 0.724, 0.644, 0.196, 0.518, 0.213, 0.193, 0.527, 0.479),
    "LoGo + PAG (c = 5)": (0.854, 0.650, 0.739, 0.668, 0.186, 0.488, 0.212, 0.193, 0.536, 0.481),
    "LoGo + PAG (c = 10)": (0.852, 0.649, 0.741, 0.689, 0.193, 0.448, 0.199, 0.184, 0.538, 0.483),
    "LoGo + PAG (c = 20)": (0.849, 0.640, 0.740, 0.673, 0.248, 0.487, 0.211, 0.192, 0.516, 0.472),
}

# LoGo, Table 2.
_LOGO_2 = {
    "T = 1": (0.807, 0.602, 0.702, 0.619, 0.297, 0.523, 0.201, 0.182, 0.504, 0.465),
    "T = 5": (0.842, 0.627, 0.724, 0.644, 0.196, 0.518, 0.213, 0.193, 0.527, 0.479),
    "T = 10": (0.859, 0.638, 0.737, 0.656, 0.204, 0.534, 0.214, 0.196, 0.524, 0.478),
    "k = 1": (0.842, 0.627, 0.724, 0.644, 0.196, 0.518, 0.213, 0.193, 0.527, 0.479),
    "k = 2": (0.850, 0.636, 0.727, 0.651, 0.192, 0.515, 0.221, 0.197, 0.537, 0.484),
    "k = 4": (0.856, 0.642, 0.733, 0.654, 0.207, 0.530, 0.206, 0.189, 0.541, 0.488),
}

# LoGo, Table 4 (Claude 3.7).
_LOGO_4 = {
    "Base model": (0.744, 0.520, 0.457, 0.379, 0.304, 0.582, 0.159, 0.142, 0.508, 0.417),
    "Base model + random": (0.755, 0.536, 0.513, 0.398, 0.318, 0.563, 0.159, 0.156, 0.423, 0.355),
    "Base model + RAG": (0.762, 0.553, 0.513, 0.420, 0.259, 0.543, 0.177, 0.159, 0.507, 0.427),
    "Base model + profile": (0.798, 0.608, 0.556, 0.454, 0.241, 0.538, 0.162, 0.145, 0.529, 0.435),
    "Base model + profile with RAG": (
        0.809, 0.621, 0.581, 0.472, 0.250, 0.535, 0.193, 0.173, 0.512, 0.432,
    ),
    "LoGo": (0.757, 0.537, 0.504, 0.409, 0.290, 0.562, 0.186, 0.167, 0.524, 0.421),
    "LoGo + RAG": (0.774, 0.579, 0.524, 0.432, 0.250, 0.535, 0.191, 0.171, 0.515, 0.434),
    "LoGo + profile": (0.822, 0.652, 0.589, 0.484, 0.286, 0.567, 0.182, 0.163, 0.534, 0.439),
    "LoGo + profile with RAG": (
        0.828, 0.658, 0.601, 0.498, 0.239, 0.523, 0.203, 0.182, 0.532, 0.427,
    ),
}  # fmt: skip

# MiLP, Table 2 (LLaMA2-13B): ROUGE-1, ROUGE-L and persona F1 for each column of `MILP`.
_MILP_2 = {
    "TpLP": (24.91, 23.36, 2.107, 20.87, 20.19, 0.678, 22.77, 21.32, 2.009),
    "MaLP": (22.61, 21.29, 2.061, 21.18, 20.78, 0.671, 23.77, 22.69, 2.250),
    "UeLP": (25.02, 23.74, 2.089, 22.03, 21.80, 0.704, 22.18, 20.88, 2.131),
    "MiLP": (25.51, 24.25, 2.283, 22.28, 21.83, 0.864, 24.13, 22.96, 2.337),
}

# MiLP, Table 4: persona F1 for each column of `MILP`.
_MILP_4 = {
    "Num": (2.011, 0.604, 2.027),
    "Size": (2.017, 0.601, 2.034),
    "Layer": (1.921, 0.597, 2.001),
    "Num + Size": (2.016, 0.604, 2.073),
    "Num + Layer": (2.130, 0.731, 2.196),
    "Size + Layer": (2.195, 0.767, 2.197),
    "Num + Size + Layer": (2.283, 0.864, 2.337),
}

# MiLP, Table 5 (MedDia).
_MILP_5 = {
    "Instruction tuning": (23.67, 22.07, 2.107),
    "Memory injection": (22.81, 19.90, 2.331),
    "Full MiLP": (24.13, 22.96, 2.337),
}

# MiLP, Table 7 (LLaMA2-7B), trainable parameters. 50.38 M is not what LoRA on the feed-forward
# maps gives; it is that of rank 96 on query and value.
_MILP_7 = {"Full training": 7e9, "Multi-LoRA": 50.38e6, "Multi-LoRA found": 43.17e6}


def _lamp(rows: Mapping[str, tuple[float, ...]]) -> dict[str, Values]:
    return {
        column: {
            label: dict(zip(_LAMP_METRICS[column], values[2 * place :], strict=False))
            for label, values in rows.items()
        }
        for place, column in enumerate(LAMP)
    }


def _milp_three(
    rows: Mapping[str, tuple[float, ...]], columns: tuple[str, ...]
) -> dict[str, Values]:
    return {
        column: {
            label: {
                "rouge_1": values[3 * place] / 100,
                "rouge_l": values[3 * place + 1] / 100,
                "persona_f1": values[3 * place + 2],
            }
            for label, values in rows.items()
        }
        for place, column in enumerate(columns)
    }


PAPER: dict[str, Mapping[str, Values]] = {
    "logo-1": _lamp(_LOGO_1),
    "logo-2": _lamp(_LOGO_2),
    "logo-4": _lamp(_LOGO_4),
    "milp-2": _milp_three(_MILP_2, MILP),
    "milp-4": {
        column: {label: {"persona_f1": values[place]} for label, values in _MILP_4.items()}
        for place, column in enumerate(MILP)
    },
    "milp-5": _milp_three(_MILP_5, ("MedDia",)),
    "milp-7": {
        column: {label: {"trainable_params": value} for label, value in _MILP_7.items()}
        for column in MILP
    },
}
"""Table to the paper's data set to its rows."""


def paper_data(spec: StudySpec) -> str | None:
    """Returns the paper's data set that a study's data stand for, None where they are none."""
    if spec.data.task in LAMP:
        return spec.data.task
    return "MedDia" if spec.data.format == "malp" else None


def checked_paper_data(table: str, name: str) -> str:
    """Returns the name of a data set of a paper's table.

    Raises SpecError if the table has none of this name.
    """
    known = tuple(PAPER.get(table, {}))
    if name not in known:
        raise SpecError(
            f"expected a data set of the paper's table {table!r}, got {name!r}",
            remedy=suggestion(name, known)
            if known
            else "leave --paper out: no paper has this table",
        )
    return name


def paper_value(table: str, data: str | None, label: str, metric: str) -> float | None:
    """Returns the paper's number, None where it has none."""
    if data is None:
        return None
    return PAPER.get(table, {}).get(data, {}).get(label, {}).get(metric)
