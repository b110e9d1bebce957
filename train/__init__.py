"""Training loops, checkpoints, run folders, logging."""

from ..support.atomic import CannotWriteError, new_files, new_folder, write_file
from ..support.metrics_file import read_metrics
from .accuracy import classification_accuracy
from .checkpoints import load_checkpoint, save_checkpoint
from .initial_weights import load_initial_weights
from .loop import train_classifier
from .metrics_log import MetricsLog
from .network import build_network, plain_network, restore_network, set_clip_share, with_sites
from .nvidia_apex import has_nvidia_apex, require_nvidia_apex
from .objective import Objective, classifier_loss
from .optimization import build_optimizer, build_schedule
from .runs import (
    checkpoint_of,
    claim_run_folder,
    conversions_of,
    find_conversion,
    find_run,
    point_latest,
    runs_of,
)
from .seeding import deterministic_convolutions, seed_everything
from .start import start_network
from .training import Training, TrainingDivergedError

__all__ = [
    "CannotWriteError",
    "MetricsLog",
    "Objective",
    "Training",
    "TrainingDivergedError",
    "build_network",
    "build_optimizer",
    "build_schedule",
    "checkpoint_of",
    "claim_run_folder",
    "classification_accuracy",
    "classifier_loss",
    "conversions_of",
    "deterministic_convolutions",
    "find_conversion",
    "find_run",
    "has_nvidia_apex",
    "load_checkpoint",
    "load_initial_weights",
    "new_files",
    "new_folder",
    "plain_network",
    "point_latest",
    "read_metrics",
    "require_nvidia_apex",
    "restore_network",
    "set_clip_share",
    "runs_of",
    "save_checkpoint",
    "seed_everything",
    "start_network",
    "train_classifier",
    "with_sites",
    "write_file",
]
