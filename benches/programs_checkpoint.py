"""What benches/programs.py saves: files of random bytes, some times over, beside the same writing without Trainyard."""
import json, os, time
from pathlib import Path
import trainyard as ty

SIZE, FILES, TIMES = int(os.environ["SIZE"]), 4, int(os.environ["TIMES"])
# Random once (what differs between checkpoints is its beginning, so that no part is shared), so that writing is what is timed.
block = bytearray(os.urandom(SIZE // FILES))


def write(folder):
    begun = time.time()
    for number in range(FILES):
        for place in range(0, len(block), 2**20):
            block[place:place + 16] = os.urandom(16)
        with open(folder / f"{number}.bin", "wb") as file:
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
    return time.time() - begun


def note(**what):
    with open(os.environ["TRACE"], "a") as file:
        file.write(json.dumps({"at": time.time(), **what}) + "\n")


ty.info()
for epoch in range(TIMES):
    plain = Path(os.environ["PLAIN"])
    note(what="plain", seconds=write(plain))
    begun = time.time()
    with ty.checkpoint_dir(epoch=epoch) as folder:
        own = write(folder)
        handed = time.time()
    ended = time.time()
    note(what="checkpoint", epoch=epoch, own=own, stall=ended - begun - own, handed=handed, ended=ended)
    ty.report({"loss": epoch}, epoch=epoch)
    # The next one begins once this one is stored: the object's appearance is timed from outside.
    while not Path(f"{os.environ['TRACE']}.go-{epoch}").exists():
        time.sleep(0.05)
        if ty.should_stop():
            raise SystemExit
