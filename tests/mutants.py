"""Judges the simulator and the unit tests by mutation: `tests/mutants.sh` installs what this needs and starts it.

cargo-mutants names the mutants; a build for each of them would take a minute. So all are woven into one copy of
the sources, each behind a condition, those that do not compile are taken out again, and what was built once runs
with the number of one mutant in its environment.
"""

import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
import random
import re
import resource
import shutil
import subprocess
import sys

import tree_sitter
import tree_sitter_rust

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
HOME = TARGET / "mutants"
TREE = HOME / "tree"
SCOPE = ["coordinator/src/cluster/**", "coordinator/src/placement*/**", "coordinator/src/placement.rs",
         "coordinator/search/src/schedule/**"]
PACKAGES = {"trainyard-search": "coordinator/search", "trainyard-coordinator": "coordinator"}
# Compiled quickly rather than well; dependencies are those of `./test`.
LIGHT = ["--config", "profile.dev.package.trainyard-search.opt-level=1"]
BUILD = [*LIGHT, "-p", "trainyard-search", "-p", "trainyard-coordinator", "-p", "trainyard-tests"]

# The tests that judge, by program and filter; the quickest of those that reach a mutant come first.
TESTS = [("trainyard-search", "schedule::"), ("trainyard-coordinator", "cluster::"), ("trainyard-coordinator", "placement::")]
# So many at first, then twice as many at a time.
BATCH = 4
# A test that takes longer (processor's seconds) is asked last.
SLOW_S = 0.5
# Worlds of the simulator that are asked before the rest.
FIRST = 100
# Processor's seconds of one process; an end for who waits without working; bytes: a loop that fills memory ends here.
CPU_S, WALL_S, BYTES = 30, 1_200, 4 << 30

GATE = '''
/// Which mutant lives, by the environment; told are those that are reached.
pub(crate) mod mutant {
    use std::io::Write;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};
    static LIVING: LazyLock<u32> = LazyLock::new(|| number("MUTANT"));
    static TOLD: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("MUTANTS_REACHED").ok());
    static SEEN: [AtomicBool; 1 << 14] = [const { AtomicBool::new(false) }; 1 << 14];
    fn number(name: &str) -> u32 {
        std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(0)
    }
    pub(crate) fn on(mutant: u32) -> bool {
        if let Some(path) = &*TOLD && !SEEN[mutant as usize].swap(true, Ordering::Relaxed) {
            let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
            let _ = file.and_then(|mut file| file.write_all(format!("{mutant}\\n").as_bytes()));
        }
        *LIVING == mutant
    }
}
'''

# Some mutants compute at compile time what cannot be.
ALLOWED = "#![allow(warnings, arithmetic_overflow, unconditional_panic)]\n"

PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))
# Around an operator, what can be put into parentheses as a whole.
WHOLE = {"binary_expression", "unary_expression", "compound_assignment_expr", "struct_expression"}


def cargo(*arguments, **how):
    return subprocess.run(["cargo", *arguments], cwd=how.pop("cwd", ROOT), text=True, **how)


def mutants(passed_on):
    """What cargo-mutants would try, numbered from 1 on."""
    scope = [part for glob in SCOPE for part in ("--file", glob)]
    packages = [part for package in PACKAGES for part in ("--package", package)]
    listed = cargo("mutants", "--list", "--json", *packages, *scope, *passed_on, stdout=subprocess.PIPE, check=True)
    found = [m for m in json.loads(listed.stdout) if "/tests/" not in m["file"]]
    for mutant in found:
        # What is known of a mutant is of this text.
        mutant["source"] = hashlib.sha256((ROOT / mutant["file"]).read_bytes()).hexdigest()[:16]
    return dict(enumerate(found, 1))


class Source:
    """A file into which mutants are woven."""

    def __init__(self, path):
        self.path = path
        self.text = (ROOT / path).read_bytes()
        self.tree = PARSER.parse(self.text)
        self.lines = [0]
        for line in self.text.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def offset(self, at):
        start = self.lines[at["line"] - 1]
        line = self.text[start:].split(b"\n", 1)[0].decode()
        return start + len(line[: at["column"] - 1].encode())

    def guard(self, mutant):
        """Where a mutant goes: (start, end) of what is replaced, the kind of guard, and its text; None: nowhere."""
        start, end = self.offset(mutant["span"]["start"]), self.offset(mutant["span"]["end"])
        new = mutant["replacement"].encode()
        node = self.tree.root_node.descendant_for_byte_range(start, start)
        if mutant["genre"] == "FnValue":
            while node and node.type != "function_item":
                node = node.parent
            body = node and node.child_by_field_name("body")
            returns = node and node.child_by_field_name("return_type")
            if returns and b"impl " in returns.text:
                empty = body and new == b"::std::iter::empty()"
                return (body.start_byte + 1, body.end_byte - 1, "empty", b"") if empty else None
            return body and (body.start_byte + 1, body.start_byte + 1, "return", new)
        if mutant["genre"] == "MatchArm":
            while node and node.type != "match_arm":
                node = node.parent
            pattern = node and node.child_by_field_name("pattern")
            if not pattern:
                return None
            condition = pattern.child_by_field_name("condition")
            if condition:
                return (condition.start_byte, condition.end_byte, "arm", b"")
            return (pattern.end_byte, pattern.end_byte, "arm", b"")
        if mutant["genre"] == "MatchArmGuard":
            return (start, end, "whole", new)
        while node and node.type not in WHOLE:
            if node.type in ("let_chain", "block", "function_item"):
                return None
            node = node.parent
        if not node:
            return None
        changed = self.text[node.start_byte : start] + new + self.text[end : node.end_byte]
        return (node.start_byte, node.end_byte, "whole", changed)

    def weave(self, numbered):
        """The text with every mutant of `numbered`, and the ranges in it that belong to each."""
        places = collections.defaultdict(list)
        for number, (start, end, kind, text) in numbered.items():
            places[start, -end, kind].append((number, text))
        out, ranges, ends, at = bytearray(), [], [], 0

        def close(until):
            nonlocal at
            while ends and ends[-1][0] <= until:
                end, tail = ends.pop()
                out.extend(self.text[at:end])
                at = max(at, end)
                out.extend(tail)

        for (start, minus_end, kind), those in sorted(places.items()):
            close(start)
            out.extend(self.text[at:start])
            at = start
            for number, text in those:
                begun = len(out)
                on = b"crate::mutant::on(%d)" % number
                if kind == "return":
                    out.extend(b" if %s { return %s; } " % (on, text))
                elif kind == "arm" and minus_end == -start:
                    out.extend(b" if !%s" % on)
                elif kind == "arm":
                    out.extend(b"!%s && (" % on)
                    ends.append((-minus_end, b")"))
                elif kind == "empty":
                    out.extend(b"({ ")
                    ends.append((-minus_end, b" }).filter(|_| !%s)" % on))
                else:
                    head = b"(if" if number == those[0][0] else b"else if"
                    out.extend(b"%s %s { %s } " % (head, on, text))
                ranges.append((begun, len(out), number))
            if kind == "whole":
                out.extend(b"else { ")
                ends.append((-minus_end, b" })"))
        close(len(self.text))
        out.extend(self.text[at:])
        return bytes(out), ranges


def copy():
    """A copy of what git knows, as it lies here, for the mutants."""
    known = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    shutil.rmtree(TREE, ignore_errors=True)
    for name in filter(None, known.decode().split("\0")):
        if (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)
    for package in PACKAGES.values():
        lib = TREE / package / "src/lib.rs"
        lib.write_text(ALLOWED + lib.read_text() + GATE)


def weave_all(every):
    """Weaves until the copy compiles; what is left out is no mutant, or not one that can live behind a condition."""
    copy()
    sources, placed = {}, {}
    for number, mutant in every.items():
        source = sources.setdefault(mutant["file"], Source(mutant["file"]))
        guard = source.guard(mutant)
        if guard:
            placed.setdefault(mutant["file"], {})[number] = guard
    ranges, stale = {}, set(placed)
    while True:
        for path in stale:
            text, ranges[path] = sources[path].weave(placed[path])
            (TREE / path).write_bytes(text)
        wrong = errors(ranges)
        if not wrong:
            return {number for those in placed.values() for number in those}
        for path, number in wrong:
            placed[path].pop(number, None)
        print(f"{len(wrong)} do not compile", flush=True)
        stale = {path for path, _ in wrong}


def errors(ranges):
    """The mutants at which the compiler complains."""
    checked = cargo("check", *BUILD, "--lib", "--message-format", "json", cwd=TREE, stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL)
    wrong, lost = set(), []
    for line in checked.stdout.splitlines():
        message = json.loads(line).get("message")
        if not isinstance(message, dict) or message.get("level") != "error":
            continue
        spans = sorted(message["spans"], key=lambda span: not span["is_primary"])
        places = [(os.path.relpath(TREE / span["file_name"], TREE), span["byte_start"], span["byte_end"]) for span in spans]
        hits = [[(path, n) for start, end, n in ranges.get(path, []) if start < last and first < end]
                for path, first, last in places]
        # A match that is no longer exhaustive is told at its head: the next mutant is an arm of it.
        hits += [[(path, n) for start, _, n in ranges.get(path, []) if start > first][:1] for path, first, _ in places]
        hit = next(filter(None, hits), [])
        wrong.update(hit)
        if not hit and spans:
            lost.append(message["rendered"])
    if checked.returncode and not wrong:
        sys.exit("the copy does not compile, and no mutant is at fault:\n" + "\n".join(lost[:5]))
    return wrong


def build():
    """The programs of the oracle by name."""
    # An integration test of the simulator's package, since its program is then built with the same features.
    built = cargo("test", "--no-run", *BUILD, "--lib", "--test", "simulation", "--message-format", "json", cwd=TREE,
                  stdout=subprocess.PIPE, check=True)
    programs = {}
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["kind"] in (["lib"], ["bin"]):
            name = message["target"]["name"].replace("_", "-")
            # Where no later build puts another.
            programs[name] = str(HOME / name)
            shutil.copy2(message["executable"], HOME / name)
    return programs


def limits():
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(program, arguments, **environment):
    """Whether it ended well, and what it said that tells why not."""
    try:
        ended = subprocess.run([program, *arguments], env={**os.environ, **environment}, cwd=TREE / "coordinator",
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                               timeout=WALL_S, preexec_fn=limits)
    except subprocess.TimeoutExpired:
        return False, "no end"
    failed = re.findall(r"^test (\S+) \.\.\. FAILED|^(seed \d+.*)", ended.stdout, re.MULTILINE)
    words = "; ".join(a or b for a, b in failed[:3]) or f"exit {ended.returncode}: {ended.stdout[-200:]}"
    return ended.returncode == 0, words


def worlds(arguments):
    """Runs of the simulator, the quickest first."""
    one = ["--threads", "1"]
    more = str(max(arguments.seeds - FIRST, 0))
    return [[*one, "--seeds", str(min(arguments.seeds, FIRST))], [*one, "--first", str(FIRST), "--seeds", more],
            [*one, "--size", "large", "--seeds", str(arguments.large)]]


def reached(programs, simulations):
    """Which mutants each test and the worlds reach, and how long it takes; all end well where no mutant lives."""
    def reach(program, words):
        path, before = HOME / "reached", os.times()
        path.unlink(missing_ok=True)
        well, why = run(program, words, MUTANTS_REACHED=str(path))
        if not well:
            sys.exit(f"{program} {words}: fails without a mutant: {why}")
        spent = os.times().children_user - before.children_user
        return spent, sorted({int(line) for line in path.read_text().split()} if path.exists() else set())

    tests = []
    for name, filtered in TESTS:
        program = programs[name]
        listed = subprocess.run([program, "--list", filtered], stdout=subprocess.PIPE, text=True, check=True).stdout
        found = re.findall(r"^(\S+): test$", listed, re.MULTILINE)
        tests += [(program, test, *reach(program, ["--exact", test])) for test in found if test.startswith(filtered)]
    return {"tests": sorted(tests, key=lambda test: test[2]), "worlds": [reach(programs["simulate"], w)[1] for w in simulations]}


def judge(number, mutant, programs, simulations, reach, apart):
    """Who kills a mutant, and how: quick tests, then some worlds (`apart`: these in any case), then what is slow."""
    alive = {"MUTANT": str(number)}
    tests = [(program, test, spent) for program, test, spent, those in reach["tests"] if number in those]
    worlds = [words for words, those in zip(simulations, reach["worlds"]) if number in those]
    caught = {}

    def ask(who, program, words):
        well, why = run(program, words, **alive)
        if not well:
            caught[who] = why
        return well

    for program in sorted({program for program, _, _ in tests}):
        quick, size = [test for of, test, spent in tests if of == program and spent < SLOW_S], BATCH
        while quick and "unit tests" not in caught:
            ask("unit tests", program, ["--exact", *quick[:size]])
            quick, size = quick[size:], 2 * size
    if worlds and (apart or not caught):
        ask("simulator", programs["simulate"], worlds[0])
    last = [("simulator", programs["simulate"], words) for words in worlds[1:]]
    last += [("unit tests", program, ["--exact", test]) for program, test, spent in tests if spent >= SLOW_S]
    for who, program, words in last:
        if caught or not ask(who, program, words):
            break
    where = [name for name, found in (("simulator", worlds), ("unit tests", tests)) if found]
    return {"mutant": mutant["name"], "source": mutant["source"], "reached": where, "caught": caught}


def main():
    parser = argparse.ArgumentParser(prog="tests/mutants.sh", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="worlds of the simulator, small")
    parser.add_argument("--large", type=int, default=10, help="and large")
    parser.add_argument("--apart", action="store_true", help="ask the simulator about what unit tests have found, too")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants that are tried at a time")
    parser.add_argument("--first", default="", help="a regular expression of files that come first")
    parser.add_argument("--again", action="store_true", help="try those that survived once more")
    parser.add_argument("--keep", action="store_true", help="use what was woven and built last time")
    arguments, passed_on = parser.parse_known_args()

    simulations, cache = worlds(arguments), HOME / "woven.json"
    if arguments.keep:
        built = json.loads(cache.read_text())
    else:
        every = mutants(passed_on)
        woven = sorted(weave_all(every))
        built = {"every": every, "woven": woven, "programs": build()}
        built["reach"] = reached(built["programs"], simulations)
        cache.write_text(json.dumps(built))
    every = {int(number): mutant for number, mutant in built["every"].items()}
    woven, programs, reach = built["woven"], built["programs"], built["reach"]
    reach["tests"] = [(program, test, spent, set(those)) for program, test, spent, those in reach["tests"]]
    reach["worlds"] = [set(those) for those in reach["worlds"]]
    somewhere = set().union(*reach["worlds"], *(those for *_, those in reach["tests"]))
    print(f"{len(every)} mutants, {len(woven)} of them woven, {len(set(woven) - somewhere)} of which nothing reaches")

    results, known = HOME / "results.jsonl", {}
    if results.exists():
        known = {(r["mutant"], r["source"]): r for r in map(json.loads, results.read_text().splitlines())}

    def key(number):
        return every[number]["name"], every[number]["source"]

    todo = [n for n in woven if key(n) not in known or (arguments.again and not known[key(n)]["caught"])]
    random.Random(0).shuffle(todo)
    todo.sort(key=lambda n: not re.search(arguments.first, every[n]["file"]))
    print(f"{len(todo)} to try", flush=True)
    with open(results, "a") as file, concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        judged = [pool.submit(judge, n, every[n], programs, simulations, reach, arguments.apart) for n in todo]
        for result in map(concurrent.futures.Future.result, concurrent.futures.as_completed(judged)):
            known[result["mutant"], result["source"]] = result
            print(json.dumps(result), file=file, flush=True)
            if not result["caught"]:
                print("survives:", result["mutant"], flush=True)
    tell([known[key(n)] for n in woven if key(n) in known])


def tell(results):
    found = collections.Counter(" and ".join(sorted(r["caught"])) or "survives" for r in results)
    for who, count in found.most_common():
        print(f"{count:5} {who}")


if __name__ == "__main__":
    main()
