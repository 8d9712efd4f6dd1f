"""`uniform` of benches/search.py: how evenly configurations are drawn where constraints leave little of a space."""
import json, resource, statistics, subprocess, sys, tempfile, time

import search_environment as environment, search_families as families
from search_ours import build

# Points of a sample.
SIZE = 1000
LINEAR = {"simplex", "order", "sums"}
# Below one in so many there are too few draws of the whole space.
REJECTED = 3
GROUPS = {"exact": ["optuna"], "rejection": ["optuna"]} \
    | {f"botorch_{name}": ["optuna", "torch", "botorch"] for name in ("hit-and-run", "get_polytope_samples", "delaunay")} \
    | {f"ax_{name}": ["optuna", "torch", "botorch", "ax"] for name in ("sobol", "uniform")}
METHODS = ["ours", *GROUPS]


def ours(program, family, seed):
    """The first configurations of a random search, and the processor time of the program that finds them."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(family.document() | {"seed": seed}, file)
        file.flush()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([program, "--output", "json", "preview", file.name, "-n", str(SIZE)], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        return {"error": (done.stderr or done.stdout).strip()[-500:]}
    found = json.loads(done.stdout)
    return {"points": [configuration["params"] for configuration in found["configurations"]], "told": found["allowed_share"],
            "cpu_s": after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime}


def applies(method, name, decade):
    """Whether a sampler can be asked at all."""
    linear = method.startswith(("botorch_", "ax_"))
    return (not linear or name in LINEAR) and (method != "rejection" or families.DECADES[decade] <= REJECTED)


def wanted(names, known, what):
    """Those that were named, in the order of `known`."""
    unknown = set(names.split(",")) - set(known) if names else set()
    if unknown:
        sys.exit(f"unknown {what}: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return [name for name in known if not names or name in names.split(",")]


def jobs(given, seeds):
    """A cell of the table after another, so that what is known of its exact sample is found out once."""
    methods = wanted(given.methods, METHODS, "methods")
    for name in wanted(given.functions, families.FAMILIES, "families"):
        for decade in range(len(families.DECADES)):
            for method in methods:
                for seed in seeds:
                    if applies(method, name, decade):
                        yield {"kind": "uniform", "method": method, "function": name, "decade": decade, "size": SIZE, "seed": seed}


def measure(given, records, seeds):
    todo = list(jobs(given, seeds))
    version = build(given.coordinatorctl) if any(job["method"] == "ours" for job in todo) else None
    needs = ["optuna"] + [group for job in todo for group in GROUPS.get(job["method"], [])]
    usable, peers, end = environment.available(dict.fromkeys(needs)), environment.Peers(), time.monotonic() + given.seconds
    left_out = set()
    for job in todo:
        if job["method"] == "ours":
            job["build"] = version
        cell = job["method"], job["function"], job["decade"]
        if time.monotonic() > end or cell in left_out or not usable.issuperset(GROUPS.get(job["method"], [])) or records.done(job):
            continue
        outcome = carry_out(job, given.coordinatorctl, peers)
        what = f"{job['method']} on {job['function']}, 1 in 10^{families.DECADES[job['decade']]}, seed {job['seed']}"
        if "error" in outcome:
            print(f"!!! {what}: {outcome['error']}", file=sys.stderr)
            left_out.add(cell)
            continue
        records.add(job | outcome)
        print(f"{what}: points {outcome['energy']:.2f}, worst feature {outcome['worst']:.2f}, distinct {outcome['distinct']}, "
              f"cpu {outcome['cpu_s']:.3f} s", flush=True)
    peers.close()


def carry_out(job, program, peers):
    sample = {}
    if job["method"] == "ours":
        sample = ours(program, families.FAMILIES[job["function"]][job["decade"]], job["seed"])
    outcome = sample if "error" in sample else sample | peers.run(job | sample)
    return {what: found for what, found in outcome.items() if what != "points"}


def table(runs):
    """A row for each family and share, and each sampler in it."""
    cells = {}
    for run in runs:
        if run["kind"] == "uniform":
            cells.setdefault((run["function"], run["decade"]), {}).setdefault(run["method"], []).append(run)
    print("\n| family | share | sampler | seeds | points | worst feature | chance, 1 in 100 | distinct | forbidden | cpu ms a point |\n"
          + "|---" * 10 + "|")
    order = {name: at for at, name in enumerate(families.FAMILIES)}
    for (name, decade), methods in sorted(cells.items(), key=lambda cell: (order[cell[0][0]], cell[0][1])):
        for method in sorted(methods, key=METHODS.index):
            same = methods[method]
            mean = {what: statistics.fmean(run[what] for run in same) for what in ("energy", "worst", "distinct", "cpu_s", "forbidden")}
            bounds = same[0]["bounds"]
            print(f"| {name} | {same[0]['share']:.1e} | {method} | {len(same)} | {mean['energy']:.2f} | {mean['worst']:.2f} | "
                  f"{bounds[0]:.2f}, {bounds[1]:.2f} | {mean['distinct']:.0f} | {mean['forbidden']:.0f} | {mean['cpu_s'] * 1000 / SIZE:.3f} |")
