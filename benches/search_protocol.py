"""The protocol of benches/search.py: how a searcher is driven, whoever wrote it, and what is recorded of it.

A searcher of one fidelity has `ask() -> (handle, configuration)` and `tell(handle, value)`; one of several has
`ask() -> (handle, configuration, from, until)`, or None while it waits for results, and `report(handle, resource, value,
last) -> whether to go on`. `cpu_s` is the processor time that it has used so far. Curves are lists of
[evaluations, regret] or [cost, regret, cost with idle workers], an entry whenever the incumbent changes.
"""
import heapq, itertools, math, random, time


class Stopwatch:
    """Processor time of this process within `with` blocks."""

    def __init__(self):
        self.seconds = 0.0

    def __enter__(self):
        self.begin = time.process_time()

    def __exit__(self, *_):
        self.seconds += time.process_time() - self.begin


def single(searcher, function, workers, evaluations, seed):
    """One evaluation after another, or asynchronous workers: so many trials are asked first; then one of those that run,
    chosen at random, is told and a new one asked. A longer run begins with the same curve as a shorter one."""
    choose = random.Random(1000 + seed)
    running = [searcher.ask() for _ in range(workers)]
    best, curve = math.inf, []
    for number in range(1, evaluations + 1):
        handle, params = running.pop(choose.randrange(len(running)))
        value = function.observe(params, function.rungs[-1], 0)
        searcher.tell(handle, value)
        if value < best:
            best = value
            curve.append([number, function.regret(params)])
        if number < evaluations:
            running.append(searcher.ask())
    return curve


class Incumbent:
    """The lowest observed value at the highest resource that any trial has reached."""

    def __init__(self, function):
        self.function, self.resource, self.value, self.curve = function, 0, math.inf, []

    def observed(self, cost, with_idle, params, resource, value):
        if resource > self.resource or resource == self.resource and value < self.value:
            self.resource, self.value = resource, value
            self.curve.append([round(cost, 6), self.function.regret(params), round(with_idle, 6)])


def fidelity(searcher, function, workers, budget, seed):
    """Simulated time: to go on from resource z0 to z takes (z - z0) / R of a whole evaluation; a trial reports at each
    rung on its way. The cost is that of the stretches that have ended; with idle workers it is the time of all of them."""
    whole, incumbent = function.rungs[-1], Incumbent(function)
    now, cost, free, order, events = 0.0, 0.0, workers, itertools.count(), []

    def go_on(handle, params, reached, until):
        rung = min((rung for rung in function.rungs if rung > reached), default=until)
        rung = min(rung, until)
        takes = (rung - reached) / whole
        heapq.heappush(events, (now + takes, next(order), handle, params, rung, until, takes))

    while True:
        while free and (stretch := searcher.ask()):
            free -= 1
            go_on(*stretch)
        if not events:
            break
        now, _, handle, params, rung, until, took = heapq.heappop(events)
        cost += took
        if cost > budget + 1e-9:
            break
        value = function.observe(params, rung, seed)
        incumbent.observed(cost, now * workers, params, rung, value)
        if searcher.report(handle, rung, value, rung == until) and rung < until:
            go_on(handle, params, rung, until)
        else:
            free += 1
    return incumbent.curve
