"""What the benchmarks share: the peers, the driver that asks all of them alike, and what becomes of the numbers."""
