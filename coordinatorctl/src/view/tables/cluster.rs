//! Tables of workers, workspaces, checkpoints and artifacts.

use trainyard_common::store_url::redacted;
use trainyard_worker::checkpoint::ArtifactKind;

use super::parts::{finish, metrics, table};
use crate::view::output::{Artifacts, Checkpoint, Checkpoints, Worker, Workspace};
use crate::view::text;

pub(crate) fn checkpoints(list: &Checkpoints) -> String {
    if list.checkpoints.is_empty() {
        return "no checkpoints".to_owned();
    }
    let mut table = table([
        "TRIAL", "STEP", "EPOCH", "SIZE", "KEPT AS", "METRICS", "MANIFEST",
    ]);
    for entry in &list.checkpoints {
        let checkpoint = &entry.checkpoint;
        table.add_row([
            entry.trial_id.to_string(),
            checkpoint.step.to_string(),
            checkpoint.epoch.to_string(),
            text::bytes(checkpoint.bytes),
            kept_as(entry).to_owned(),
            metrics(&checkpoint.metrics),
            checkpoint.manifest.clone(),
        ]);
    }
    format!("{}\nunder {}", finish(&table), list.checkpoint_url)
}

pub(crate) fn artifacts(list: &Artifacts) -> String {
    if list.artifacts.is_empty() {
        return "no artifacts".to_owned();
    }
    let mut table = table(["TRIAL", "NAME", "KIND", "FILES", "SIZE", "ATTEMPT", "MADE"]);
    for artifact in &list.artifacts {
        let kind = match artifact.kind {
            ArtifactKind::File => "file",
            ArtifactKind::Folder => "folder",
        };
        table.add_row([
            artifact.trial_id.to_string(),
            artifact.name.clone(),
            kind.to_owned(),
            artifact.files.to_string(),
            text::bytes(artifact.bytes),
            artifact.attempt.to_string(),
            text::moment(artifact.made_ms),
        ]);
    }
    format!(
        "{}\nunder {}",
        finish(&table),
        redacted(&list.checkpoint_url)
    )
}

fn kept_as(checkpoint: &Checkpoint) -> &'static str {
    match (checkpoint.best, checkpoint.latest) {
        (true, true) => "best, latest",
        (true, false) => "best",
        (false, true) => "latest",
        (false, false) => "-",
    }
}

pub(crate) fn workers(workers: &[Worker]) -> String {
    if workers.is_empty() {
        return "no workers".to_owned();
    }
    let mut table = table([
        "WORKER", "HOST", "STATE", "SLOTS", "DEVICES", "PROGRAMS", "VERSION", "CPU", "NOTE",
    ]);
    for worker in workers {
        table.add_row([
            worker.worker_id.clone(),
            worker.host.clone(),
            worker.state.to_owned(),
            format!("{}/{}", worker.slots_used, worker.devices.len()),
            worker.devices.join(","),
            programs(worker.programs).to_owned(),
            worker.version.clone(),
            worker.cpu_kind.clone(),
            worker.note.clone(),
        ]);
    }
    finish(&table)
}

fn programs(allowed: Option<bool>) -> &'static str {
    match allowed {
        Some(true) => "allow",
        Some(false) => "refuse",
        None => "-",
    }
}

pub(crate) fn workspaces(workspaces: &[Workspace]) -> String {
    if workspaces.is_empty() {
        return "no workspaces".to_owned();
    }
    let mut table = table([
        "WORKSPACE",
        "WEIGHT",
        "SHARE",
        "CPU",
        "CUDA",
        "ACTIVE",
        "WAITING",
    ]);
    let slots = |used: u32, most: Option<u32>| match most {
        Some(most) => format!("{used}/{most}"),
        None => used.to_string(),
    };
    for workspace in workspaces {
        table.add_row([
            workspace.name.clone(),
            workspace.weight.to_string(),
            format!("{:.1} %", workspace.share * 100.0),
            slots(workspace.cpu_slots_used, workspace.max_cpu_slots),
            slots(workspace.cuda_slots_used, workspace.max_cuda_slots),
            workspace.jobs_active.to_string(),
            workspace.jobs_waiting.to_string(),
        ]);
    }
    finish(&table)
}
