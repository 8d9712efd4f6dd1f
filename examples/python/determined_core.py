"""A parabola's minimum, step by step, with Determined's core API: reports, checkpoints, stops."""

import json

import trainyard.determined as det


def main(core_context, info):
    rate = info.trial.hparams["rate"] if info else 0.1
    x, done = 5.0, 0
    if info and info.latest_checkpoint:
        with core_context.checkpoint.restore_path(info.latest_checkpoint) as folder:
            x, done = json.loads((folder / "state.json").read_text())
    for batch in range(done + 1, 271):
        x -= rate * 2 * x
        if batch % 10 == 0:
            core_context.train.report_training_metrics(batch, {"x": x})
            core_context.train.report_validation_metrics(batch, {"loss": x * x})
            with core_context.checkpoint.store_path({"steps_completed": batch}) as (folder, _):
                (folder / "state.json").write_text(json.dumps([x, batch]))
            if core_context.preempt.should_preempt():
                return


if __name__ == "__main__":
    with det.core.init() as context:
        main(context, det.get_cluster_info())
