"""transformers' group_by_length on permutations of our own."""

from unittest import mock

import torch
from transformers import trainer_pt_utils

from . import common


def permutation(stream, count):
    keys = common.uniform(stream, count)
    return sorted(range(count), key=lambda i: (keys[i], i))


def grouped(stream, count, update):
    lengths = [int(20 + 19 * value) for value in common.uniform(stream, count)]
    order = permutation(stream + 1, count)
    with mock.patch.object(torch, "randperm", lambda *_, **__: torch.tensor(order)):
        result = trainer_pt_utils.get_length_grouped_indices(lengths, update)
    return {"update": update, "lengths": lengths, "permutation": order, "order": result}


def make(options):
    # Fewer samples than four chunks; a last chunk that is short; chunks of 50 updates.
    common.write_json(options.output / "batches" / "length_groups.json",
                      [grouped(7000, 10, 4), grouped(7002, 107, 6), grouped(7004, 420, 2)])
