"""What benches/programs.py trains: a small network on two ranks, an epoch a second, under whoever has started it.

    DDP by Gloo; each epoch is written down in TRACE with its time, and kept: by Trainyard, by Ray Train, or (torchrun) in a
    file. An epoch takes at least EPOCH_S, so that a kill falls into one.
"""
import os, sys, time
from pathlib import Path

EPOCHS, EPOCH_S, BATCHES = int(os.environ.get("EPOCHS", "8")), 1.0, 10


def trace(what):
    with open(os.environ["TRACE"], "a") as file:
        file.write(f"{time.time()} {os.getpid()} {os.environ.get('RANK', '?')} {what}\n")


def train(restored, keep, wrap):
    """`restored`: a folder or None. `keep(epoch, loss, write)`: keeps what `write(folder)` writes. `wrap`: makes a model DDP."""
    import torch
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.rand(256, 16)
    y = x.sum(1, keepdim=True)
    inner = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
    first = 0
    if restored:
        state = torch.load(Path(restored) / "state.pt")
        inner.load_state_dict(state["model"])
        first = state["epoch"] + 1
    model = wrap(inner)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    trace(f"from {first}")
    for epoch in range(first, EPOCHS):
        begun = time.monotonic()
        for batch in range(BATCHES):
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            optimizer.step()
            time.sleep(max(0, begun + EPOCH_S * (batch + 1) / BATCHES - time.monotonic()))
        trace(f"epoch {epoch}")
        keep(epoch, loss.item(), lambda folder: torch.save({"model": inner.state_dict(), "epoch": epoch}, Path(folder) / "state.pt"))


def with_trainyard():
    import trainyard as ty
    ty.torch.init()

    def keep(epoch, loss, write):
        ty.report({"loss": loss}, epoch=epoch)
        with ty.checkpoint_dir(epoch=epoch) as folder:
            write(folder)
        ty.should_stop()

    train(ty.latest_checkpoint(), keep, ty.torch.prepare)


def with_torchrun():
    import torch, torch.distributed as dist
    dist.init_process_group("gloo")
    kept = Path(os.environ["KEPT"])

    def keep(epoch, loss, write):
        if dist.get_rank() == 0:
            write(kept)
            (kept / "state.pt").rename(kept / "whole.pt")

    if (kept / "whole.pt").exists():
        # Each rank its own name: another may be reading.
        own = kept / f"rank-{dist.get_rank()}"
        own.mkdir(exist_ok=True)
        (own / "state.pt").write_bytes((kept / "whole.pt").read_bytes())
        train(own, keep, torch.nn.parallel.DistributedDataParallel)
    else:
        train(None, keep, torch.nn.parallel.DistributedDataParallel)
    dist.destroy_process_group()


def in_ray(environment):
    import tempfile, ray.train, ray.train.torch
    os.environ.update(environment)
    context = ray.train.get_context()
    os.environ["RANK"] = str(context.get_world_rank())

    def keep(epoch, loss, write):
        with tempfile.TemporaryDirectory() as folder:
            if context.get_world_rank() == 0:
                write(folder)
                ray.train.report({"loss": loss}, checkpoint=ray.train.Checkpoint.from_directory(folder))
            else:
                ray.train.report({"loss": loss})

    kept = ray.train.get_checkpoint()
    if kept is None:
        train(None, keep, ray.train.torch.prepare_model)
    else:
        with kept.as_directory() as folder:
            train(folder, keep, ray.train.torch.prepare_model)


def with_ray(storage):
    """A driver: one training run for each line of standard input, on one Ray that stays up."""
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    import ray, ray.train.torch
    sys.path.insert(0, str(Path(__file__).parent))
    import programs_train
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20,
             runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}})
    print("ready", flush=True)
    for number, line in enumerate(sys.stdin):
        ray.train.torch.TorchTrainer(
            programs_train.in_ray, train_loop_config={"TRACE": line.strip(), "EPOCHS": str(EPOCHS)},
            scaling_config=ray.train.ScalingConfig(num_workers=2, use_gpu=False),
            run_config=ray.train.RunConfig(name=f"run-{number}", storage_path=storage, failure_config=ray.train.FailureConfig(max_failures=3)),
        ).fit()
        print("done", flush=True)


if __name__ == "__main__":
    if "TRACE" in os.environ:
        trace("start")
    {"trainyard": with_trainyard, "torchrun": with_torchrun, "ray": with_ray}[sys.argv[1]](*sys.argv[2:])
