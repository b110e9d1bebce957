"""What a fresh conversion is compared with, and what tools/convert.py says about it."""

from ..convert import convergence_sentence, layer_errors, logit_errors, reference_name
from ..counting import Report
from . import setting_up
from .cli import say
from .text_table import aligned

CHECK_IMAGES = 16  # training images of the comparison
SHOWN_LAYERS = 5  # worst layers that are printed; conversion.json has all


def check(snn, prepared, run, settings, arguments, device) -> Report:
    """Simulate a few training images: layer errors, which go into `snn.info`, and the audit.

    With --no-check the report has no counts.

    Args:
        prepared: what `snn` was made of.
    """
    if arguments.no_check:
        return snn.report
    own = run.kind == "own"  # what it tends to is compared with the network itself
    data = run.data(arguments.data, arguments.data_path)
    count = min(CHECK_IMAGES, len(data.split("train")))
    images = setting_up.training_images(data, count, settings.seed, settings.calibration_images)
    images = images.to(device)
    if not own:
        snn.info.layer_errors = layer_errors(snn, prepared, images, settings.timesteps)
        errors = logit_errors(snn, prepared, images, settings.timesteps)
        snn.info.logit_errors = {str(step): error for step, error in errors.items()}
        snn.info.convergence = convergence_sentence(errors, reference_name(snn))
    return snn.audit(images, settings.timesteps)


def say_report(snn, report: Report) -> None:
    """The audit, the layer errors in short, and one sentence on the logits."""
    say()
    for line in report.summary.splitlines():
        say(line)
    rows = snn.layer_errors
    if not rows:
        return
    worst = sorted(rows, key=lambda row: row["unevenness"], reverse=True)[:SHOWN_LAYERS]
    say()
    say(
        f"{len(rows)} layers against the {reference_name(snn)} on training images; those that add "
        "most of their own (relative errors):"
    )
    parts = ("error", "clipping", "quantisation", "unevenness")
    table = [["layer", *parts]]
    table += [[row["name"], *(f"{row[part]:.3f}" for part in parts)] for row in worst]
    for line in aligned(table):
        say(f"  {line}")
    say(snn.info.convergence)
