"""Numbers as people read them, in reports and tables alike."""

from __future__ import annotations


def number_text(value: float, *, zeros: bool) -> str:
    """Returns a number with four digits, large ones whole and with separators.

    Args:
        value: The number.
        zeros: Whether zeros at the end of the four digits stand.

    Returns:
        The text.
    """
    # What rounds to 1,000 is written so; and zero has no sign.
    if abs(value) < 1e15 and (float(value).is_integer() or abs(value) >= 999.95):
        return f"{value or 0:,.0f}"
    return f"{value:#.4g}" if zeros else f"{value:.4g}"
