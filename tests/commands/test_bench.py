import json


def test_numbers_are_printed_and_written(tool, tmp_path, trained):
    words = ("--run", trained / "runs" / "tiny_fake", "--timesteps", "2,4", "--repeats", 2)
    said = tool("bench.py", *words, "--batch-size", 3, "--json", "b.json", cwd=tmp_path).worked()
    assert "ANN forward" in said and "step / ANN" in said
    found = json.loads((tmp_path / "b.json").read_text())
    assert [row["timesteps"] for row in found["snn"]] == [2, 4]
    assert found["ann"]["seconds"] > 0 and found["ann"]["peak_bytes"] > 0
    row = found["snn"][0]
    assert row["seconds_per_step"] == row["seconds"] / 2
    tool("bench.py", *words, "--batch-size", 100, cwd=tmp_path).refused("--batch-size")
