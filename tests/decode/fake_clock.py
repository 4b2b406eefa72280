"""A clock that ticks once per mark."""


class FakeClock:
    def __init__(self) -> None:
        self.now = 0

    def mark(self) -> int:
        self.now += 1
        return self.now

    def seconds(self, earlier: int, later: int) -> float:
        return float(later - earlier)
