"""From a model to its record: accuracy at every time step, operations, energy."""

from .conventions import CONVENTIONS, Recount, recount
from .energy import ENERGY_MODELS, EnergyModel, energy_model
from .evaluator import evaluate
from .memory import MemoryModel
from .observation import Observation, observe
from .records import SCHEMA, check_record, read_eval_json, write_eval_json

__all__ = [
    "CONVENTIONS",
    "ENERGY_MODELS",
    "SCHEMA",
    "EnergyModel",
    "MemoryModel",
    "Observation",
    "Recount",
    "check_record",
    "energy_model",
    "evaluate",
    "observe",
    "read_eval_json",
    "recount",
    "write_eval_json",
]
