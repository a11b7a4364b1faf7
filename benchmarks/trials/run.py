"""What a trial costs, packed against plain PEFT: time, memory, overhead, whole studies.

    python benchmarks/trials/run.py --out benchmarks/results/trials
    python benchmarks/trials/run.py --device cuda --out benchmarks/results/trials_gpu

On a CPU the quick-start study is measured; on a GPU a Llama of 1.2 billion random weights, bf16,
on records of 128 and of 1,024 tokens. `--small` measures a tiny model of random weights instead,
to try the script. Parts that are not measured anew are kept from the file that is there.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from built import LARGE, SMALL, built_settings
from executor import overheads
from generation import generations
from machine import machine
from peak_memory import peak_memories
from plot import bars, svg
from setting import Setting, quick_start
from table import markdown
from whole_study import whole_studies
from whole_trial import whole_trials

Rows = list[dict[str, Any]]


def makers(
    settings: Sequence[Setting], arguments: argparse.Namespace
) -> dict[str, Callable[[], Rows]]:
    """Returns what measures each part."""
    repeats, trials = arguments.repeats, arguments.trials
    tokens = (1024, 8192) if arguments.device.startswith("cuda") else (512, 1024)
    return {
        "masks": lambda: [row for one in settings for row in whole_trials(one, repeats)],
        "generation": lambda: [row for one in settings for row in generations(one, repeats)],
        # Long records would take hours through plain PEFT.
        "study": lambda: whole_studies(
            settings[0], trials, arguments.study_repeats, ray=arguments.ray
        ),
        "overhead": lambda: overheads(repeats, ray=not arguments.small),
        "memory": lambda: [row for one in settings for row in peak_memories(one, tokens)],
    }


def write(name: str, part: dict[str, Any], out: Path) -> str:
    """Writes figures, tables and plot beside one another, with a new part; returns the tables."""
    out.parent.mkdir(parents=True, exist_ok=True)
    file = out.with_suffix(".json")
    parts = json.loads(file.read_text()) if file.exists() else {}
    parts[name] = part
    text = markdown(parts)
    file.write_text(json.dumps(parts, indent=1) + "\n")
    out.with_suffix(".md").write_text(text)
    out.with_suffix(".svg").write_text(svg(bars(parts)))
    return text


def main() -> None:
    """Measures, then prints and writes the tables."""
    parts = ["masks", "generation", "study", "overhead", "memory"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/trials"))
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--study-repeats", type=int, default=1)
    parser.add_argument("--trials", type=int, default=40, help="trials of the whole study")
    parser.add_argument("--ray", action="store_true", help="run the studies through Ray as well")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true", help="a tiny model, to try the script")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        if arguments.small:
            settings = built_settings(Path(place), SMALL, arguments.device, "random")
        elif arguments.device.startswith("cuda"):
            settings = built_settings(Path(place), LARGE, arguments.device, "saas_nehvi")
        else:
            settings = [quick_start(arguments.device)]
        text = ""
        for name in arguments.parts:
            facts = machine(arguments.device)
            rows = makers(settings, arguments)[name]()
            text = write(name, {"machine": facts, "rows": rows}, arguments.out)
            print(f"{name} done", flush=True)
    print(text)


if __name__ == "__main__":
    main()
