"""Starts commands quickly: everything is imported once, then each command is a forked process.

Reads one JSON object a line from standard input: argv, cwd, out, err (files), largest_file (bytes
or null), no_override (whether root loses its right to write everywhere). Answers with exit codes.
"""

import ctypes
import json
import os
import resource
import runpy
import sys
import traceback

import timm  # noqa: F401
import torch  # noqa: F401
import torchvision  # noqa: F401

import spikeswap.commands.bench
import spikeswap.convert
import spikeswap.data
import spikeswap.evaluate
import spikeswap.report
import spikeswap.train  # noqa: F401

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def run(job: dict) -> None:
    """In the child: become the command."""
    os.chdir(job["cwd"])
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ.update(job["env"])
    if job["no_override"]:
        drop_override(job)
    if job["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)
    sys.argv = job["argv"]
    sys.path[0] = os.path.dirname(job["argv"][0])
    code = 0
    try:
        runpy.run_path(job["argv"][0], run_name="__main__")
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 0 if ending.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def drop_override(job: dict) -> None:
    """Only a new program feels a smaller bounding set, so start one (slower, like a user)."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            os._exit(99)
    os.execv(sys.executable, [sys.executable, *job["argv"]])


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
