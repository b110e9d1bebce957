"""Accuracy at every time step, energy models, figures, report."""

from .energy import ENERGY_MODELS, EnergyModel, energy_model
from .evaluator import evaluate
from .memory import MemoryModel
from .records import SCHEMA, check_record, read_eval_json, write_eval_json
from .report import write_report

__all__ = ["ENERGY_MODELS", "SCHEMA", "EnergyModel", "MemoryModel", "check_record",
           "energy_model", "evaluate", "read_eval_json", "write_eval_json", "write_report"]
