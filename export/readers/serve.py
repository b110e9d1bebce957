"""Run a reader in a Python of its own: requests on standard input, one answer a line.

    python serve.py READER.py NETWORK.nir THREADS DEVICE

A request is {"images": FILE.npy, "timesteps": T, "keep_meaning": true, "into": FILE.npz}; the file gets
the outputs and the packed spikes of every node, the answer is {} or {"error": text}.
"""

import json
import runpy
import sys

import numpy as np
import torch


def answer(reader, path, loaded, request):
    keep = request["keep_meaning"]
    if keep not in loaded:
        loaded[keep] = reader["load"](path, keep, sys.argv[4])
    images = torch.from_numpy(np.load(request["images"])).to(sys.argv[4])
    outputs, spikes = loaded[keep](images, request["timesteps"])
    packed = {
        f"spikes/{n}": np.packbits(s.bool().cpu().numpy(), axis=None) for n, s in spikes.items()
    }
    several = {f"several/{n}": np.array(int((s > 1).sum())) for n, s in spikes.items()}
    np.savez(request["into"], outputs=outputs.cpu().numpy(), **packed, **several)


def main():
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer
    torch.set_num_threads(int(sys.argv[3]))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        reader, failure = runpy.run_path(sys.argv[1]), None
    except ImportError as error:
        reader, failure = None, f"ImportError: {error}"
    loaded = {}
    for line in sys.stdin:
        try:
            if failure is None:
                answer(reader, sys.argv[2], loaded, json.loads(line))
            text = {} if failure is None else {"error": failure}
        except Exception as error:  # noqa: BLE001  (a stranger's importer may raise anything)
            said = str(error).strip().splitlines() or ["nothing"]
            text = {"error": f"{type(error).__name__}: {said[0][:200]}"}
        print(json.dumps(text), file=answers, flush=True)


if __name__ == "__main__":
    main()
