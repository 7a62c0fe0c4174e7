from __future__ import annotations

from itertools import product

from dfer.system.randomness import stream, torch_seed


def test_streams_are_repeatable_and_all_different() -> None:
    keys = list(product((0, 1), ("order", "clip", "split"), (0, 1, 2), (0, 1, 2)))
    first = [stream(*key).random() for key in keys]
    assert first == [stream(*key).random() for key in keys]
    assert len(set(first)) == len(keys)


def test_torch_seeds_fit_into_63_bits() -> None:
    seeds = [torch_seed(seed, "network", epoch) for seed in range(20) for epoch in range(20)]
    assert len(set(seeds)) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
