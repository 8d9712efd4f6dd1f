"""The peers' packages: a virtual environment under target/, made by groups as they are needed; and the process in it."""
import json, os, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "search-peers"
PYTHON = FOLDER / "bin/python"
# Longest installation of a group, seconds.
PATIENCE = 15 * 60

# PyTorch's wheel for Linux is built for CUDA. Without its dependencies but with what its libraries are linked to it takes
# 1 GB less; Triton and the rest are not needed on a CPU.
TORCH = """torch==2.15.0 typing_extensions sympy mpmath networkx jinja2 markupsafe filelock fsspec
nvidia-cublas==13.4.1.3 nvidia-cuda-cupti==13.2.86 nvidia-cuda-nvrtc==13.2.86 nvidia-cuda-runtime==13.2.86
nvidia-cudnn-cu13==9.26.0.51 nvidia-cufft==12.2.0.57 nvidia-cufile==1.17.1.22 nvidia-cusparse==12.7.10.12
nvidia-cusparselt-cu13==0.8.1 nvidia-nccl-cu13==2.30.7 nvidia-nvjitlink==13.5.37 nvidia-nvshmem-cu13==3.7.2"""

# Group: (what must be importable, pip's arguments). --no-deps where dependencies are large and not needed.
GROUPS = {
    "optuna": ("optuna, cmaes, scipy", "optuna==5.0.0 cmaes==0.13.1 scipy"),
    "torch": ("torch", f"--no-deps {TORCH}"),
    # Of its requirements xgboost is left out, which brings a library for GPUs.
    "syne": ("syne_tune.optimizer.baselines", "--no-deps syne-tune==0.16.0 dill pandas sortedcontainers statsmodels patsy "
             "scikit-learn joblib threadpoolctl tqdm psutil python-dateutil pytz six tzdata numpy scipy packaging typing_extensions"),
    "smac": ("smac", "smac==2.4.1"),
    "botorch": ("botorch", "--no-deps botorch==0.18.1 gpytorch==1.15.2 linear_operator pyre_extensions jaxtyping "
                "wadler-lindig multipledispatch typing_inspect mypy_extensions threadpoolctl scikit-learn joblib scipy numpy"),
    # After PyTorch and BoTorch, which it asks for.
    "ax": ("ax.api.client", "ax-platform==1.3.1"),
}


def quiet(command, patience):
    """Whether it succeeded, and its last words."""
    try:
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=patience, cwd=FOLDER.parent)
    except subprocess.TimeoutExpired:
        return False, f"not done after {patience} s"
    return done.returncode == 0, " | ".join(done.stdout.strip().splitlines()[-3:])


def importable(group):
    return quiet([PYTHON, "-c", f"import {GROUPS[group][0]}"], 300)


def available(groups):
    """Those of the groups that can be used; installs what is not there, and says loudly what cannot be had."""
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
    usable = set()
    for group in groups:
        stamp, wanted = FOLDER / f"group-{group}", GROUPS[group][1]
        if stamp.exists() and stamp.read_text() == wanted:
            usable.add(group)
            continue
        well, said = importable(group)
        if not well:
            print(f"installing {group} into {FOLDER}", file=sys.stderr)
            well, said = quiet([FOLDER / "bin/pip", "install", "--quiet", *wanted.split()], PATIENCE)
            well, said = importable(group) if well else (well, said)
        if well:
            stamp.write_text(wanted)
            usable.add(group)
        else:
            print(f"!!! SKIPPED: no {group}: {said}", file=sys.stderr)
    return usable


class Peers:
    """The process that runs the peers; started with its first job."""

    process = None

    def run(self, job):
        if self.process is None:
            # One thread each, and the same order of sets in every run.
            fixed = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} | {"PYTHONHASHSEED": "0"}
            program = Path(__file__).with_name("search_peers.py")
            self.process = subprocess.Popen([str(PYTHON), str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=subprocess.DEVNULL, text=True, env=os.environ | fixed)
        try:
            print(json.dumps(job), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            how, self.process = self.process.wait(), None
            return {"error": f"the peers' process ended with {how}"}
        return json.loads(line)

    def close(self):
        if self.process:
            self.process.stdin.close()
            self.process.terminate()
            self.process.wait()
