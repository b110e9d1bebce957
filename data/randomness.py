"""Random generators keyed by what they are for, so that streams never depend on each other."""

import hashlib

import torch


def keyed_seed(*key) -> int:
    """A 63-bit seed from any values, e.g. `keyed_seed(seed, epoch, "order")`."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def keyed_generator(*key) -> torch.Generator:
    """A CPU generator seeded by `keyed_seed(*key)`."""
    return torch.Generator().manual_seed(keyed_seed(*key))


def name_order(names, seed=0) -> list[int]:
    """Positions in an order that looks shuffled but hangs on each name (and the seed) alone."""
    keys = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in names]
    return sorted(range(len(keys)), key=keys.__getitem__)
