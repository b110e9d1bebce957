"""Train a spiking network directly, or its conventional rival with ReLU, as in its paper."""

import _cli
import _training_flags


def parser() -> _cli.Parser:
    """All flags."""
    return _training_flags.add_flags(_cli.Parser(__doc__).common(), mask=False)


def command(arguments) -> None:
    """Read the recipe, train, save; the run folder appears once training starts."""
    import _setup
    import _training

    if arguments.mask:
        raise ValueError(
            f"--mask is {arguments.mask:g}, but directly trained networks have no masked sites; "
            "leave it out, or train a network with masks by tools/train_qcfs.py"
        )
    device = _cli.start(arguments)
    cfg, resumed = _training.recipe(arguments)
    bundle = _setup.open_data(cfg)
    build = _setup.describe_direct(cfg, bundle)
    _training.run(arguments, cfg, bundle, build, device=device, resumed=resumed)


if __name__ == "__main__":
    _cli.run_command(command, parser())
