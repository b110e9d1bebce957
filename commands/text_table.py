"""Records of an evaluation as plain, aligned text."""

COLUMNS = (
    ("model", "name", "{}"),
    ("kind", "kind", "{}"),
    ("T", "timesteps", "{}"),
    ("mask", "mask", "{:g}"),
    ("top-1 %", "top1", "{:.2f}"),
    ("top-5 %", "top5", "{:.2f}"),
    ("agree %", "agreement_with_ann", "{:.2f}"),
    ("energy mJ", "energy_millijoules", "{:.4g}"),
    ("/ quantised", "energy_to_quantised", "{:.3g}"),
    ("spikes/synapse", "spikes_per_synapse", "{:.3g}"),
    ("images/s", "images_per_second", "{:.4g}"),
)


def overview(records: list[dict]) -> list[str]:
    """One row per model; "-" where a value could not be had (its reason is in eval.json)."""
    rows = [[head for head, _, _ in COLUMNS]]
    for record in records:
        rows.append(
            ["-" if record[key] is None else form.format(record[key]) for _, key, form in COLUMNS]
        )
    remarks = []
    for record in records:
        if record["batch_independent"] not in (True, None):
            remarks.append(f"! {record['name']}: {record['batch_independent']}")
        if record.get("early_exit"):
            early = record["early_exit"]
            remarks.append(
                f"{record['name']}: stopped at confidence {early['confidence']:g} it takes "
                f"{early['average_timesteps']:.1f} steps on average, top-1 {early['top1']:.2f} %"
            )
    return aligned(rows) + remarks


def accuracy_by_timestep(records: list[dict], chosen: list[int] | None) -> list[str]:
    """Top-1 after T steps of every spiking model, at the chosen T or at powers of two."""
    spiking = [record for record in records if record["top1_by_timestep"]]
    if not spiking:
        return []
    longest = max(len(record["top1_by_timestep"]) for record in spiking)
    steps = chosen or sorted(
        {*(2**n for n in range(longest.bit_length()) if 2**n <= longest), longest}
    )
    rows = [["top-1 % at T =", *map(str, steps)]]
    for record in spiking:
        series = record["top1_by_timestep"]
        rows.append(
            [record["name"], *(f"{series[t - 1]:.2f}" if t <= len(series) else "-" for t in steps)]
        )
    return ["", *aligned(rows), ""]


def aligned(rows: list[list[str]]) -> list[str]:
    """Columns of equal width: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
