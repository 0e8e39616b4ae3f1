"""Numbers and names as a person reads them."""

from __future__ import annotations


def size(nbytes: int) -> str:
    """`nbytes` for a person: `1.49 GB` (powers of ten, three digits)."""
    amount = float(nbytes)
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if amount < 999.5 or unit == "PB":
            return f"{nbytes} B" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1000
    raise AssertionError


def count(number: int, noun: str) -> str:
    """`1 tensor`, `2,000 tensors`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def clean(name: str) -> str:
    """`name` with control characters and lone surrogates escaped, fit for a terminal or a page."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
