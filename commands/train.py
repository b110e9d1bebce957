"""Train a network with QCFS activations, the ANN that tools/convert.py turns into an SNN."""

from . import cli, training_flags


def parser() -> cli.Parser:
    """All flags."""
    return training_flags.add_flags(cli.Parser(__doc__).common(), mask=True)


def command(arguments) -> None:
    """Read the recipe, train, save; the run folder appears once training starts."""
    from . import setting_up, training

    device = cli.start(arguments)
    cfg, resumed = training.recipe(arguments)
    bundle = setting_up.open_data(cfg)
    build = setting_up.describe_build(cfg, bundle)
    training.run(arguments, cfg, bundle, build, device=device, resumed=resumed)
