"""A study or space file cannot make us work for long, build much, or run anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from milp_search.core.errors import SpecError
from milp_search.dispatch.show import check_file
from security.command import Command

MIB = 1 << 20
SPACE = "name: s\nlayers: {layers}\ndimensions: {{ffn_layer_mask: search}}\n"
RANKS = "name: s\nlayers: 4\ndimensions: {{lora_rank: {ranks}}}\n"

# Each file's text, and place and words of the message that refuses it.
REFUSED: dict[str, tuple[str, str]] = {
    "10^9 layers": (SPACE.format(layers=10**9), "2:1: layers: expected 1 to 1024, got 1000000000"),
    "1,025 layers": (SPACE.format(layers=1025), "2:1: layers: expected 1 to 1024, got 1025"),
    "10^5 digits": (SPACE.format(layers="9" * 10**5), "2:9: expected a number of at most 100"),
    "an infinite number": (SPACE.format(layers="1e400"), "2:9: expected a finite number"),
    "a long exponent": (SPACE.format(layers="1e" + "9" * 10**5), "2:9: expected a finite number"),
    "a range of 10^9": (RANKS.format(ranks="{low: 1, high: 1000000000}"), "3:34: lora_rank: "),
    "a range to 10^90": (RANKS.format(ranks=f"{{low: 1, high: {10**90}}}"), "3:34: lora_rank: "),
    "a long list": (f"a: [{'1,' * 20_000}]", "expected at most 20000 values"),
    "many keys": ("".join(f"k{n}: 1\n" for n in range(20_000)), "expected at most 20000 values"),
    "one byte more than 1 MiB": ("a: " + "x" * (MIB - 2), "expected a file of at most 1048576"),
    "33 levels of lists": ("a: " + "[" * 32 + "]" * 32, "1:35: expected at most 32 levels"),
    "33 levels of mappings": (
        "".join(f"{' ' * n}a:\n" for n in range(33)) + " " * 33 + "b",
        "33:33: expected at most 32 levels",
    ),
    "half a MiB of brackets": ("a: " + "[" * (MIB // 2), "1:35: expected at most 32 levels"),
    "an anchor": ("a: &x 1\n", "1:4: expected plain values, got an anchor"),
    "an alias": ("a: *x\n", "1:4: expected plain values, got an anchor (&) or alias"),
    "a billion laughs": ("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "1:4: expected plain values"),
    "a merge key": ("<<: {name: x}\nname: y\n", "1:1: unknown key '<<'"),
    "a merged anchor": ("a: &x {b: 1}\nc: {<<: *x}\n", "1:4: expected plain values"),
    "a repeated key": ("name: a\nspace: b\nname: c\n", "3:1: expected each key once, got 'name'"),
    "a Python object": (
        "a: !!python/object/apply:os.system [touch ran]\n",
        "1:4: expected plain values, got the tag 'tag:yaml.org...ply:os.system'",
    ),
    "a tag of its own": ("a: !mine 1\n", "1:4: expected plain values, got the tag '!mine'"),
    "binary": ("a: !!binary aGk=\n", "1:4: expected plain values, got the tag 'tag:yaml.or"),
    "a MiB of exclamation marks": ("a: " + "!" * (MIB - 3), "1:4: expected plain values, got a"),
    "a second document": ("a: 1\n---\nb: 2\n", "2:1: expected one document"),
    "a zero byte": ("a: \0\n", "1:4: expected printable text, got the character U+0000"),
    "an escape character": ("a: \x1b[2J\n", "1:4: expected printable text, got the char"),
    "a C1 control character": ("a: \x9b2J\n", "1:4: expected printable text, got the character"),
    "a list as key": ("? [1]\n: 1\n", "1:3: expected a name as key"),
}  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    """Returns the CPU seconds of the fastest of three calls, the least disturbed one."""

    def once() -> float:
        start = time.process_time()
        with pytest.raises(SpecError):
            work()
        return time.process_time() - start

    return min(once() for _ in range(3))


@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_at_its_place_by_exit_code_2(
    kind: str, tmp_path: Path, milp_search: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, message = REFUSED[kind]
    (tmp_path / "file.yaml").write_text(text, encoding="utf-8", newline="")
    code, out, error = milp_search("validate", "file.yaml")
    assert (code, out) == (2, "")
    assert error.startswith("milp-search: file.yaml:")
    assert message in error
    assert "Traceback" not in error
    # Nothing of any length is repeated.
    assert len(error) < 1000
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]


@pytest.mark.parametrize("kind", ["10^9 layers", "a range of 10^9", "10^5 digits", "1,025 layers"])
def test_what_would_be_built_for_ever_is_refused_in_100_ms(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(REFUSED[kind][0])
    assert seconds(lambda: check_file(file)) < 0.1


@pytest.mark.parametrize("kind", ["a MiB of exclamation marks", "half a MiB of brackets"])
def test_what_is_long_to_read_takes_seconds_and_not_minutes(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(REFUSED[kind][0])
    assert seconds(lambda: check_file(file)) < 5


def test_1024_layers_are_taken(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(SPACE.format(layers=1024))
    assert "1024 parameters" in check_file(tmp_path / "file.yaml")


def test_32_levels_are_taken_as_far_as_nesting_goes(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text("a: " + "[" * 30 + "1" + "]" * 30)
    with pytest.raises(SpecError, match="unknown key 'a'"):
        check_file(tmp_path / "file.yaml")


def test_a_long_key_is_told_in_short(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(f"? {'k' * 10_000}\n: 1\n")
    with pytest.raises(SpecError, match=r"unknown key 'k{90,100}\.\.\.k{90,100}'") as refused:
        check_file(tmp_path / "file.yaml")
    assert len(str(refused.value)) < 1000
