"""Flags of the two training commands; each is a shorter way to say --set KEY VALUE."""

from .cli import mask_ratio, real_number, whole_number

# flag's name in the parsed arguments -> yacs key
FLAG_KEYS = {
    "data": "DATA.NAME",
    "data_path": "DATA.PATH",
    "download": "DATA.DOWNLOAD",
    "val_fraction": "DATA.VAL_FRACTION",
    "img_size": "DATA.IMG_SIZE",
    "epochs": "TRAIN.EPOCHS",
    "batch_size": "TRAIN.BATCH_SIZE",
    "lr": "TRAIN.LR",
    "mask": "MODEL.MASK",
    "init": "TRAIN.INIT",
    "seed": "TRAIN.SEED",
}


def add_flags(parser, mask: bool):
    """Flags of tools/train_qcfs.py and tools/train_direct.py."""
    add = parser.add_argument
    add(
        "--cfg",
        metavar="NAME_OR_PATH",
        help="recipe (no default); a bare name is looked up in configs/",
    )
    add("--data", metavar="NAME", help="data set, e.g. mnist5k (default: the recipe's)")
    add("--data-path", metavar="DIR", help="folder of the data (default: the data set's own place)")
    add(
        "--download",
        action="store_const",
        const=True,
        help="fetch missing data files (default: never)",
    )
    add(
        "--val-fraction",
        type=real_number(0, 1, "a fraction"),
        metavar="F",
        help="share of the training split set apart to choose best.pt (default: the recipe's)",
    )
    add(
        "--img-size",
        type=whole_number(1, "an image size", 32),
        metavar="PIXELS",
        help="side of the square image (default: the recipe's)",
    )
    add(
        "--epochs",
        type=whole_number(1, "a number of epochs", 25),
        metavar="N",
        help="passes over the training split (default: the recipe's)",
    )
    add(
        "--batch-size",
        type=whole_number(1, "a batch size", 50),
        metavar="IMAGES",
        help="images per step and process (default: the recipe's)",
    )
    add(
        "--lr",
        type=real_number(0, float("inf"), "a learning rate", closed_low=False),
        metavar="RATE",
        help="peak learning rate (default: the recipe's)",
    )
    add(
        "--mask",
        type=mask_ratio,
        metavar="P",
        help="ratio of spikes dropped at the masked sites in training (default: the recipe's)"
        if mask
        else "0: these networks have no masked sites (default: 0)",
    )
    add("--output", default="runs", metavar="DIR", help="where run folders go (default: runs)")
    add(
        "--init",
        metavar="PATH",
        help="start from these weights, or from 'pretrained', those of MODEL.SOURCE; a head of another "
        "size is left out and named (default: random weights)",
    )
    add(
        "--resume",
        metavar="auto|PATH",
        help="go on with a run after its last epoch; auto: the "
        "newest run of this recipe and data, or a new one if there is none (default: a new run)",
    )
    add(
        "--set",
        nargs="+",
        default=[],
        metavar=("KEY", "VALUE"),
        help="any keys of the recipe, e.g. --set TRAIN.EMA 0.999 (default: none)",
    )
    return parser
