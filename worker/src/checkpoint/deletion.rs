//! Deletes checkpoints, and of their parts those that no other manifest of the trial names.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_common::ids::{Generation, TrialId};
use trainyard_common::store_url;

use super::store::CheckpointStore;
use super::{CheckpointError, manifest, staged};

impl CheckpointStore {
    /// Deletes checkpoints: manifests first, then the parts that none of their trial's remaining
    /// manifests names, and what older generations left behind. Those that are gone already are fine.
    ///
    /// To be called by the process that runs the trial's newest attempt (its saves and deletes take
    /// turns), or by any once the trial has ended. See `manifest` for why an old attempt that still runs
    /// somewhere does no harm.
    pub async fn delete(&self, manifests: &[String]) -> Result<(), CheckpointError> {
        let mut by_trial: BTreeMap<TrialId, Vec<String>> = BTreeMap::new();
        for name in manifests {
            let Some((trial, ..)) = manifest::parse_name(name) else {
                return Err(self.objects.corrupt(name, "this is no manifest's name"));
            };
            by_trial.entry(trial).or_default().push(name.clone());
        }
        for (trial, names) in by_trial {
            let lock = self.lock(trial);
            let _guard = lock.lock().await;
            self.delete_in(trial, &names).await?;
        }
        Ok(())
    }

    async fn delete_in(&self, trial: TrialId, names: &[String]) -> Result<(), CheckpointError> {
        let mut candidates = BTreeSet::new();
        let mut newest = None;
        for name in names {
            newest = newest.max(manifest::parse_name(name).map(|parsed| parsed.2));
            candidates.extend(self.parts_of(name).await?.unwrap_or_default());
        }
        self.objects.delete(names).await?;

        let mut named = BTreeSet::new();
        for name in self.manifests(trial).await? {
            newest = newest.max(manifest::parse_name(&name).map(|parsed| parsed.2));
            match self.parts_of(&name).await {
                Ok(parts) => named.extend(parts.unwrap_or_default()),
                // A checkpoint that this program cannot read is not this program's to break.
                Err(error @ CheckpointError::NewerFormat { .. }) => {
                    tracing::warn!(%error, "no parts are deleted beside a newer checkpoint");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(newest) = newest {
            self.sweep_staged(trial, newest).await;
        }
        let folder = manifest::parts_folder(trial);
        let below = self.objects.names_below(&folder).await?;
        let abandoned = below.into_iter().filter(|path| {
            // Only generations that a later one has fenced off: nobody who counts writes there.
            manifest::part_generation(trial, path).is_some_and(|at| Some(at) < newest)
        });
        candidates.extend(abandoned);
        let unnamed: Vec<String> = candidates.difference(&named).cloned().collect();
        if unnamed.is_empty() {
            return Ok(());
        }
        self.objects.delete(&unnamed).await
    }

    /// Of stores that are folders. What cannot be removed is only room lost.
    async fn sweep_staged(&self, trial: TrialId, newest: Generation) {
        let Some(root) = store_url::local_path(self.url()) else {
            return;
        };
        let sweeping = tokio::task::spawn_blocking(move || staged::sweep(&root, trial, newest));
        match sweeping.await {
            Ok(Ok(0)) => {}
            Ok(Ok(files)) => tracing::info!(files, "removed what killed uploads had left"),
            Ok(Err(error)) => tracing::warn!(%error, "what killed uploads left stays"),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Paths of a manifest's parts; `None` if it is missing or torn, and so names none.
    async fn parts_of(&self, name: &str) -> Result<Option<Vec<String>>, CheckpointError> {
        match self.manifest(name).await {
            Ok(manifest) => Ok(Some(
                manifest.parts.into_iter().map(|part| part.path).collect(),
            )),
            Err(error) if error.is_corrupt() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
