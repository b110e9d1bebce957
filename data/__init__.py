"""Data sets by name: `load_dataset(name)` gives a `DataBundle` with its loaders."""

from .bundle import DataBundle, Split
from .loader import EvalLoader, TrainLoader
from .registry import list_datasets, load_dataset

__all__ = [
    "DataBundle",
    "EvalLoader",
    "Split",
    "TrainLoader",
    "list_datasets",
    "load_dataset",
]
