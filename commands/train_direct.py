"""Train a spiking network directly, or its conventional rival with ReLU, as in its paper."""

from . import cli, training_flags


def parser() -> cli.Parser:
    """All flags."""
    return training_flags.add_flags(cli.Parser(__doc__).common(), mask=False)


def command(arguments) -> None:
    """Read the recipe, train, save; the run folder appears once training starts."""
    from . import setting_up, training

    if arguments.mask:
        raise ValueError(
            f"--mask is {arguments.mask:g}, but directly trained networks have no masked sites; "
            "leave it out, or train a network with masks by tools/train_qcfs.py"
        )
    device = cli.start(arguments)
    cfg, resumed = training.recipe(arguments)
    bundle = setting_up.open_data(cfg)
    build = setting_up.describe_direct(cfg, bundle)
    training.run(arguments, cfg, bundle, build, device=device, resumed=resumed)
