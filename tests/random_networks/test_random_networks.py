"""Random networks convert to what they tend to; network_proof.py runs more seeds than these."""

import collections

import network_generator
import network_lines
import network_proof
import pytest

from spikeswap.ops import TABLE, Kind

SEEDS, BLOCK = 300, 10
ALL_SEEDS = 40
WITHOUT = {  # of no use in a network of its own
    *"half meshgrid vstack channel_affine getattr number size assertion constant_pad".split(),
    *"set_part zeros ones full empty arange linspace eye tensor new_tensor new_full".split(),
    *"empty_like new_empty tril_indices triu_indices lshift rshift one_hot".split(),
    *(f"max_pool{axes}d_with_indices" for axes in (1, 2, 3)),  # tests/convert/test_operands.py
}
outcomes = collections.Counter()


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_a_random_network_converts_to_what_it_tends_to(first):
    outcomes.update(network_proof.attempt(seed) for seed in range(first, first + BLOCK))


@pytest.mark.parametrize("first", range(1000, 1000 + ALL_SEEDS, BLOCK))
def test_with_sites_everywhere_too(first):
    for seed in range(first, first + BLOCK):
        network_proof.attempt(seed, sites="all")


def test_most_random_networks_convert():
    if outcomes.total() < SEEDS:
        pytest.skip("the seeds were not all run")
    assert outcomes["exact"] >= 0.8 * SEEDS, outcomes


def test_every_operation_of_the_table_is_drawn():
    drawn = {*network_lines.ARGUMENTS, *network_lines.MODULES}
    kinds = (Kind.SITE, Kind.MASK, Kind.TIMED, Kind.SMOOTH, Kind.REFUSED)
    wanted = {name for name, row in TABLE.items() if row.kind not in kinds}
    assert wanted - drawn <= WITHOUT
    assert not [name for name in drawn if name not in TABLE]


def test_a_seed_names_one_network():
    assert str(network_generator.draw(7)) == str(network_generator.draw(7))
