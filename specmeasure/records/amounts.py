"""How sizes and counts are spoken, in messages as in reports."""


def byte_size(num_bytes: int) -> str:
    """A size in binary units, three digits.

    >>> byte_size(13_631_488), byte_size(0)
    ('13.0 MiB', '0 B')
    """
    size = float(num_bytes)
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.{0 if unit == 'B' else three_digits(size)}f} {unit}"
        size /= 1024
    return f"{size:.{three_digits(size)}f} GiB"


def count(number: int, noun: str = "") -> str:
    """A count with its noun.

    >>> count(1, "prompt"), count(12_000, "trial"), count(0, "category")
    ('1 prompt', '12,000 trials', '0 categories')
    """
    if not noun:
        return f"{number:,}"
    several = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else several}"


def three_digits(value: float) -> int:
    """Decimals with which a number has three digits, none below 100.

    >>> three_digits(1.234), three_digits(12.34), three_digits(1234)
    (2, 1, 0)
    """
    return 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
