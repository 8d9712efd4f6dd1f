//! Whole checkpoints in memory and file stores, torn ones, and stores that fail.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use serde_json::json;
use tokio::sync::Semaphore;
use trainyard_common::ids::{AttemptId, Generation, TrialId};
use trainyard_common::store_url;

mod folders;

use super::objects::{Created, Objects};
use super::*;

const PART: usize = 64;

/// A store that can run full, fail and hold writes back, and that remembers what was written.
#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    /// Bytes that can still be written.
    room: AtomicI64,
    /// Writes that fail before the next one is let through.
    failures: AtomicU32,
    /// A write needs (and keeps) a permit.
    gate: Semaphore,
    written: Mutex<Vec<String>>,
    conditional: bool,
}

impl Faulty {
    fn new() -> Self {
        Self {
            inner: InMemory::new(),
            room: AtomicI64::new(i64::MAX),
            failures: AtomicU32::new(0),
            gate: Semaphore::new(1_000_000),
            written: Mutex::default(),
            conditional: true,
        }
    }

    fn count(&self, part: &str) -> usize {
        let written = self.written.lock().unwrap();
        written.iter().filter(|path| path.contains(part)).count()
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({self:p})")
    }
}

fn broken(message: &'static str) -> object_store::Error {
    object_store::Error::Generic {
        store: "Faulty",
        source: message.into(),
    }
}

#[tonic::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        if opts.mode == PutMode::Create && !self.conditional {
            return Err(object_store::Error::NotImplemented {
                operation: "create".to_owned(),
                implementer: "Faulty".to_owned(),
            });
        }
        self.gate.acquire().await.unwrap().forget();
        let bytes = payload.content_length() as i64;
        if self.room.fetch_sub(bytes, Ordering::SeqCst) < bytes {
            return Err(broken("No space left on device"));
        }
        let fails = |left: u32| left.checked_sub(1);
        let order = Ordering::SeqCst;
        if self.failures.fetch_update(order, order, fails).is_ok() {
            return Err(broken("connection refused"));
        }
        self.written.lock().unwrap().push(location.to_string());
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn owner(generation: u64) -> Owner {
    Owner {
        job: "digits-1".into(),
        trial: TrialId(3),
        attempt: AttemptId(generation as u32),
        generation: Generation(generation),
    }
}

/// 40 values that are the same in each snapshot, then 20 that are `value`.
fn snapshot(step: u64, value: f32) -> Snapshot {
    let tensor = |name: &str, shape: &[usize], data: Vec<f32>| NamedTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data,
    };
    Snapshot {
        tensors: vec![
            tensor("model/w", &[5, 8], (0..40).map(|i| i as f32).collect()),
            tensor("model/b", &[20], vec![value; 20]),
            tensor("optimizer/scalar", &[], vec![0.5]),
        ],
        epoch: step / 10,
        step,
        state: json!({"cursor": {"position": step, "sum": 0.1 + 0.2}, "note": null}),
        metrics: vec![
            ("validation_accuracy".to_owned(), 0.9),
            ("loss".to_owned(), f64::INFINITY),
        ],
    }
}

/// A handle, and the same objects without checks.
struct Place {
    store: CheckpointStore,
    raw: Arc<dyn ObjectStore>,
    prefix: Path,
    folder: Option<tempfile::TempDir>,
}

impl Place {
    fn at(&self, name: &str) -> Path {
        let name = Path::parse(name).unwrap();
        self.prefix.parts().chain(name.parts()).collect()
    }

    async fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.at(name);
        let mut bytes = self
            .raw
            .get(&path)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap()
            .to_vec();
        change(&mut bytes);
        self.raw.put(&path, bytes.into()).await.unwrap();
    }

    async fn names(&self) -> Vec<String> {
        use futures::TryStreamExt;
        let listed: Vec<_> = self
            .raw
            .list(Some(&self.prefix))
            .try_collect()
            .await
            .unwrap();
        let mut names: Vec<_> = listed
            .iter()
            .map(|meta| meta.location.to_string())
            .collect();
        names.sort();
        names
    }

    async fn parts(&self) -> usize {
        let names = self.names().await;
        names.iter().filter(|name| name.contains("/parts/")).count()
    }
}

/// A memory store and a file store, neither with anything in it.
fn places(test: &str) -> Vec<Place> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("not/yet").display().to_string();
    let memory = format!("memory://checkpoint-tests/{test}");
    [(memory, None), (file, Some(folder))]
        .into_iter()
        .map(|(url, folder)| {
            let (raw, prefix) = store_url::open(&url).unwrap();
            Place {
                store: CheckpointStore::open(&url).unwrap().with_part_bytes(PART),
                raw,
                prefix,
                folder,
            }
        })
        .collect()
}

fn over(faulty: &Arc<Faulty>) -> Place {
    let raw: Arc<dyn ObjectStore> = Arc::clone(faulty) as _;
    let prefix = Path::from("job");
    Place {
        store: CheckpointStore::over(Arc::clone(&raw), prefix.clone(), "faulty://job")
            .with_part_bytes(PART),
        raw,
        prefix,
        folder: None,
    }
}

#[tokio::test]
async fn round_trip() {
    for place in places("round-trip") {
        let saved = snapshot(120, 7.0);
        let reference = place.store.save(&owner(5), saved.clone()).await.unwrap();
        assert_eq!(reference.manifest, "trials/3/000000000120-5.json");
        assert_eq!((reference.step, reference.epoch), (120, 12));
        assert_eq!(reference.bytes, 61 * 4);
        assert_eq!(reference.metrics, saved.metrics);
        assert!(place.parts().await > 3);
        assert_eq!(place.store.load_ref(&reference).await.unwrap(), saved);
        assert_eq!(place.store.load(&reference.manifest).await.unwrap(), saved);
        let manifest = place.store.manifest(&reference.manifest).await.unwrap();
        assert_eq!(
            (manifest.job.as_str(), manifest.generation),
            ("digits-1", 5)
        );
        let bytes = place.store.verify(&reference.manifest).await.unwrap();
        assert_eq!(bytes, manifest.file_bytes());
        // Steps order manifests, whatever their number of digits or generation.
        for (step, generation) in [(9, 9), (1_000, 5)] {
            let by = owner(generation);
            place.store.save(&by, snapshot(step, 1.0)).await.unwrap();
        }
        let known = place.store.manifests(TrialId(3)).await.unwrap();
        let steps: Vec<_> = known.iter().map(|name| &name[9..21]).collect();
        assert_eq!(steps, ["000000000009", "000000000120", "000000001000"]);
        assert!(place.store.manifests(TrialId(4)).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_replay_is_fine_and_another_content_is_refused() {
    for place in places("replay") {
        let first = place.store.save(&owner(1), snapshot(1, 1.0)).await.unwrap();
        let again = place.store.save(&owner(1), snapshot(1, 1.0)).await.unwrap();
        assert_eq!(first, again);
        let error = place
            .store
            .save(&owner(1), snapshot(1, 2.0))
            .await
            .unwrap_err();
        assert!(matches!(error, CheckpointError::Conflict { .. }), "{error}");
        assert!(!error.is_retryable());
        // Another generation has another name.
        place.store.save(&owner(2), snapshot(1, 2.0)).await.unwrap();
        assert_eq!(
            place.store.load_ref(&first).await.unwrap(),
            snapshot(1, 1.0)
        );
    }
}

#[tokio::test]
async fn of_concurrent_creates_one_wins() {
    for place in places("concurrent") {
        let objects = Objects::new(Arc::clone(&place.raw), place.prefix.clone(), "url");
        let creates = (0..16u8).map(|i| {
            let objects = objects.clone();
            tokio::spawn(
                async move { (i, objects.create("one", vec![i; 9].into()).await.unwrap()) },
            )
        });
        let results = futures::future::join_all(creates).await;
        let new: Vec<u8> = results
            .into_iter()
            .map(std::result::Result::unwrap)
            .filter_map(|(i, created)| matches!(created, Created::New).then_some(i))
            .collect();
        assert_eq!(new.len(), 1, "{new:?}");
        assert_eq!(objects.exactly("one", 9).await.unwrap(), vec![new[0]; 9]);
    }
}

/// Every way to break the newest checkpoint is told by name, and the one before it is used.
#[tokio::test]
async fn a_broken_checkpoint_is_skipped() {
    for (case, expected) in [
        ("byte", "its digest is"),
        ("short", "it has 63 bytes, the manifest says 64"),
        ("gone", "it is missing"),
        ("manifest-gone", "it is missing"),
        ("manifest-cut", "its digest is"),
        ("manifest-changed", "its digest is"),
    ] {
        for place in places(case) {
            let old = place
                .store
                .save(&owner(1), snapshot(10, 1.0))
                .await
                .unwrap();
            let new = place
                .store
                .save(&owner(2), snapshot(20, 2.0))
                .await
                .unwrap();
            let manifest = place.store.manifest(&new.manifest).await.unwrap();
            let part = &manifest.parts[2].path;
            match case {
                "byte" => place.change(part, |bytes| bytes[13] ^= 1).await,
                "short" => place.change(part, |bytes| bytes.truncate(63)).await,
                "gone" => place.raw.delete(&place.at(part)).await.unwrap(),
                "manifest-gone" => place.raw.delete(&place.at(&new.manifest)).await.unwrap(),
                "manifest-cut" => {
                    place
                        .change(&new.manifest, |bytes| bytes.truncate(40))
                        .await
                }
                _ => place.change(&new.manifest, |bytes| bytes[30] ^= 1).await,
            }
            let error = place.store.load_ref(&new).await.unwrap_err();
            assert!(
                error.is_corrupt() && !error.is_retryable(),
                "{case}: {error}"
            );
            let message = error.to_string();
            let object = if case.starts_with("manifest") {
                &new.manifest
            } else {
                part
            };
            assert!(
                message.contains(expected) && message.contains(object),
                "{message}"
            );
            assert!(message.contains(place.store.url()), "{message}");
            let known = [old.clone(), new.clone()];
            let newest = place.store.load_newest_whole(&known).await.unwrap();
            assert_eq!(newest.found, Some((old, snapshot(10, 1.0))), "{case}");
            assert_eq!(newest.broken, std::slice::from_ref(&new.manifest), "{case}");
            let none = place
                .store
                .load_newest_whole(std::slice::from_ref(&new))
                .await
                .unwrap();
            assert_eq!((none.found, none.broken.len()), (None, 1));
            if !case.starts_with("manifest") {
                assert!(place.store.verify(&new.manifest).await.is_err());
            }
        }
    }
}

#[tokio::test]
async fn manifests_of_other_programs() {
    for place in places("formats") {
        let reference = place.store.save(&owner(1), snapshot(1, 1.0)).await.unwrap();
        let name = &reference.manifest;
        let set = |from: &'static str, to: &'static str| {
            place.change(name, move |bytes| {
                let text = String::from_utf8(bytes.clone()).unwrap();
                assert!(text.contains(from));
                *bytes = text.replace(from, to).into_bytes();
            })
        };
        set("\"format\": 1", "\"format\": 3").await;
        let error = place.store.load(name).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{name} has format 3; this program reads up to 2: use a newer one")
        );
        // Neither its parts nor others are deleted beside it.
        let parts = place.parts().await;
        let other = place.store.save(&owner(1), snapshot(2, 1.0)).await.unwrap();
        place.store.delete(&[other.manifest]).await.unwrap();
        assert_eq!(place.parts().await, parts);
        set("\"format\": 3", "\"fromat\": 2").await;
        let error = place.store.load(name).await.unwrap_err();
        assert!(error.to_string().contains("no `format` number"), "{error}");
        set("\"fromat\": 2", "\"format\": 1, \"more\": 2").await;
        let error = place.store.load(name).await.unwrap_err();
        assert!(
            error.to_string().contains("unknown field `more`"),
            "{error}"
        );
        // A name from elsewhere cannot leave the job's folder.
        let error = place.store.load("trials/../../x.json").await.unwrap_err();
        assert!(error.to_string().contains("trials/../../x.json"), "{error}");
    }
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_that_looks_whole() {
    let faulty = Arc::new(Faulty::new());
    let place = over(&faulty);
    let old = place.store.save(&owner(1), snapshot(1, 1.0)).await.unwrap();
    let new = snapshot(2, 2.0);
    // However far it gets, until everything fits.
    for room in (0..4_000).step_by(97) {
        faulty.room.store(room, Ordering::SeqCst);
        let known = place.store.manifests(TrialId(3)).await.unwrap();
        match place.store.save(&owner(1), new.clone()).await {
            Ok(reference) => {
                assert!(room > 0);
                assert_eq!(place.store.load_ref(&reference).await.unwrap(), new);
                return;
            }
            Err(error) => {
                assert!(error.is_retryable());
                let message = error.to_string();
                assert!(message.contains("checkpoint store faulty://job: cannot write trials/3/"));
                assert!(message.contains("No space left on device"), "{message}");
                assert_eq!(known, [old.manifest.as_str()]);
            }
        }
    }
    panic!("it never fitted");
}

#[tokio::test]
async fn an_identical_part_is_written_once() {
    let faulty = Arc::new(Faulty::new());
    let place = over(&faulty);
    place.store.save(&owner(1), snapshot(1, 1.0)).await.unwrap();
    let first = faulty.count("/parts/");
    assert_eq!(first, place.parts().await);
    place.store.save(&owner(1), snapshot(2, 1.0)).await.unwrap();
    assert_eq!(
        faulty.count("/parts/"),
        first,
        "same tensors, nothing to write"
    );
    place.store.save(&owner(1), snapshot(3, 2.0)).await.unwrap();
    assert!(
        faulty.count("/parts/") < 2 * first,
        "the first tensor is shared"
    );
}

/// What rots between two checkpoints that share it must not make the second one, and all later ones,
/// unreadable while each save says that all is well.
#[tokio::test]
async fn a_stored_part_that_has_rotted_is_written_anew_and_told() {
    for damage in ["byte", "short", "long", "empty", "gone"] {
        for place in places(&format!("rot-{damage}")) {
            let first = place.store.save(&owner(1), snapshot(1, 1.0)).await.unwrap();
            let parts = place.store.manifest(&first.manifest).await.unwrap().parts;
            let part = &parts[2].path;
            match damage {
                "byte" => place.change(part, |bytes| bytes[13] ^= 1).await,
                "short" => place.change(part, |bytes| bytes.truncate(63)).await,
                "long" => place.change(part, |bytes| bytes.push(0)).await,
                "empty" => place.change(part, Vec::clear).await,
                _ => place.raw.delete(&place.at(part)).await.unwrap(),
            }
            assert!(place.store.load_ref(&first).await.is_err(), "{damage}");
            let second = place.store.save(&owner(1), snapshot(2, 1.0)).await.unwrap();
            for (reference, step) in [(&first, 1), (&second, 2)] {
                let loaded = place.store.load_ref(reference).await.unwrap();
                assert_eq!(loaded, snapshot(step, 1.0), "{damage}");
            }
            let told = place.store.clone().take_mended();
            if damage == "gone" {
                assert_eq!(told, [""; 0]);
            } else {
                assert!(told.len() == 1 && told[0].starts_with(part), "{told:?}");
            }
            assert_eq!(place.store.take_mended(), [""; 0], "told once");
        }
    }
}

/// Path, digest and size of a part that no manifest may name, and why not.
fn wrong_parts() -> [(String, String, u64, &'static str); 11] {
    let digest = "0123456789abcdef".repeat(4);
    let own = format!("trials/3/parts/1/{digest}");
    [
        (
            own.replace("trials/3/", "trials/4/"),
            digest.clone(),
            8,
            "of its own attempt only",
        ),
        (
            own.replace("parts/1/", "parts/2/"),
            digest.clone(),
            8,
            "of its own attempt only",
        ),
        (
            format!("../other-job/{own}"),
            digest.clone(),
            8,
            "of its own attempt only",
        ),
        (
            format!("trials/3/parts/1/../../../x/{digest}"),
            digest.clone(),
            8,
            "own attempt only",
        ),
        (
            format!("/{own}"),
            digest.clone(),
            8,
            "of its own attempt only",
        ),
        (
            "trials/4/000000000009-9.json".to_owned(),
            digest.clone(),
            8,
            "own attempt only",
        ),
        (
            "trials/3/parts/1/".to_owned(),
            String::new(),
            8,
            "64 hexadecimal digits",
        ),
        (
            own.to_uppercase(),
            digest.to_uppercase(),
            8,
            "64 hexadecimal digits",
        ),
        (
            own.clone(),
            format!("{}/..", &digest[..61]),
            8,
            "64 hexadecimal digits",
        ),
        (own.clone(), digest.clone(), 0, "accepted are 1 to 67108864"),
        (
            own.clone(),
            digest.clone(),
            u64::MAX,
            "accepted are 1 to 67108864",
        ),
    ]
}

/// A manifest that was not written by this program: what it names is neither read nor deleted.
#[tokio::test]
async fn a_manifest_names_parts_of_its_own_attempt_only() {
    for (number, (path, blake3, bytes, expected)) in wrong_parts().into_iter().enumerate() {
        for place in places(&format!("names-{number}")) {
            let other = Owner {
                trial: TrialId(4),
                ..owner(9)
            };
            let others = place.store.save(&other, snapshot(9, 1.0)).await.unwrap();
            let mine = place.store.save(&owner(1), snapshot(1, 1.0)).await.unwrap();
            let before = place.names().await;
            place
                .change(&mine.manifest, |text| {
                    let mut manifest: Manifest = serde_json::from_slice(text).unwrap();
                    manifest.parts[0] = PartEntry {
                        path: path.clone(),
                        bytes,
                        blake3: blake3.clone(),
                    };
                    *text = serde_json::to_vec(&manifest).unwrap();
                })
                .await;
            let error = place.store.load(&mine.manifest).await.unwrap_err();
            assert!(error.is_corrupt(), "{path}: {error}");
            assert!(error.to_string().contains(expected), "{path}: {error}");
            assert!(place.store.verify(&mine.manifest).await.is_err());
            place
                .store
                .delete(std::slice::from_ref(&mine.manifest))
                .await
                .unwrap();
            let after = place.names().await;
            let gone: Vec<_> = before.iter().filter(|name| !after.contains(name)).collect();
            assert_eq!(gone.len(), 1, "{path}: only the manifest itself: {gone:?}");
            assert!(place.store.load_ref(&others).await.is_ok());
        }
    }
}

/// A copy under another name would be taken for another trial's, step's or attempt's.
#[tokio::test]
async fn a_manifest_is_what_its_name_says() {
    for place in places("renamed") {
        let saved = place.store.save(&owner(1), snapshot(1, 1.0)).await.unwrap();
        let text = place.raw.get(&place.at(&saved.manifest)).await.unwrap();
        let text = text.bytes().await.unwrap();
        for name in [
            "trials/4/000000000001-1.json",
            "trials/3/000000000002-1.json",
            "trials/3/000000000001-2.json",
        ] {
            place
                .raw
                .put(&place.at(name), text.clone().into())
                .await
                .unwrap();
            let error = place.store.load(name).await.unwrap_err();
            let expected = "it says of itself that it is trials/3/000000000001-1.json";
            assert!(error.to_string().contains(expected), "{error}");
        }
        place
            .raw
            .put(&place.at("trials/3/1-1.json"), text.into())
            .await
            .unwrap();
        let known = place.store.manifests(TrialId(3)).await.unwrap();
        assert!(
            !known.contains(&"trials/3/1-1.json".to_owned()),
            "{known:?}"
        );
    }
}

#[tokio::test]
async fn delete_keeps_shared_parts() {
    for place in places("delete") {
        let first = place.store.save(&owner(1), snapshot(1, 1.0)).await.unwrap();
        let second = place.store.save(&owner(1), snapshot(2, 2.0)).await.unwrap();
        let both = place.parts().await;
        let names = [first.manifest.clone()];
        place.store.delete(&names).await.unwrap();
        assert!(place.parts().await < both);
        assert_eq!(
            place.store.load_ref(&second).await.unwrap(),
            snapshot(2, 2.0)
        );
        assert_eq!(
            place.store.manifests(TrialId(3)).await.unwrap(),
            [second.manifest.as_str()]
        );
        // Again is fine; so is one that never was.
        place.store.delete(&names).await.unwrap();
        place.store.delete(&[second.manifest]).await.unwrap();
        assert_eq!(place.names().await, [""; 0]);
        let error = place
            .store
            .delete(&["trials/3/parts/1".to_owned()])
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("this is no manifest's name"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn delete_sweeps_older_generations_only() {
    for place in places("sweep") {
        let old = place.store.save(&owner(1), snapshot(1, 1.0)).await.unwrap();
        let new = place.store.save(&owner(2), snapshot(2, 1.0)).await.unwrap();
        for part in ["1/torn", "2/in-flight", "7/newer"] {
            let path = place.at(&format!("trials/3/parts/{part}"));
            place.raw.put(&path, "x".into()).await.unwrap();
        }
        // What killed writes leave, which the store does not list.
        let trial = place
            .folder
            .as_ref()
            .map(|at| at.path().join("not/yet/trials/3"));
        let killed = ["parts/1/a#1", "parts/1/b#12", "000000000001-1.json#1"];
        let alive = ["parts/2/a#1", "parts/7/a#1", "000000000002-2.json#1"];
        for file in killed.iter().chain(&alive) {
            if let Some(trial) = &trial {
                std::fs::write(trial.join(file), "x").unwrap();
            }
        }
        place.store.delete(&[old.manifest]).await.unwrap();
        if let Some(trial) = &trial {
            assert!(killed.iter().all(|file| !trial.join(file).exists()));
            assert!(alive.iter().all(|file| trial.join(file).exists()));
        }
        assert_eq!(place.store.load_ref(&new).await.unwrap(), snapshot(2, 1.0));
        let names = place.names().await;
        let has = |part: &str| names.iter().any(|name| name.ends_with(part));
        assert!(
            !names.iter().any(|name| name.contains("/parts/1/")),
            "{names:?}"
        );
        assert!(has("2/in-flight") && has("7/newer"), "{names:?}");
    }
}

/// Saves that share parts with checkpoints that are being deleted stay whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saves_and_deletes_take_turns() {
    for place in places("turns") {
        let mut last = place.store.save(&owner(1), snapshot(0, 1.0)).await.unwrap();
        for step in 1..30 {
            let (store, manifest) = (place.store.clone(), last.manifest.clone());
            let delete = tokio::spawn(async move { store.delete(&[manifest]).await });
            let store = CheckpointStore::open(place.store.url())
                .unwrap()
                .with_part_bytes(PART);
            let save =
                tokio::spawn(async move { store.save(&owner(1), snapshot(step, 1.0)).await });
            delete.await.unwrap().unwrap();
            last = save.await.unwrap().unwrap();
            assert_eq!(
                place.store.load_ref(&last).await.unwrap(),
                snapshot(step, 1.0)
            );
        }
        assert_eq!(place.store.manifests(TrialId(3)).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn download_writes_whole_files() {
    let folder = tempfile::tempdir().unwrap();
    for place in places("download") {
        let reference = place.store.save(&owner(1), snapshot(1, 1.0)).await.unwrap();
        let to = folder.path().join("a/b");
        let files = place
            .store
            .download(&reference.manifest, &to)
            .await
            .unwrap();
        let bytes = std::fs::read(&files.content).unwrap();
        assert_eq!(files.content, to.join("model.safetensors"));
        assert_eq!(bytes.len() as u64, files.bytes);
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.tensor("model/w").unwrap().shape(), [5, 8]);
        let manifest = std::fs::read_to_string(&files.manifest).unwrap();
        assert!(manifest.contains("digits-1"));
        let count = || std::fs::read_dir(&to).unwrap().count();
        assert_eq!(count(), 2);
        // A broken one replaces nothing and leaves nothing.
        let part = &place
            .store
            .manifest(&reference.manifest)
            .await
            .unwrap()
            .parts[1];
        place.change(&part.path, |bytes| bytes[0] ^= 1).await;
        place
            .store
            .download(&reference.manifest, &to)
            .await
            .unwrap_err();
        assert_eq!(std::fs::read(&files.content).unwrap(), bytes);
        assert_eq!(count(), 2);
        let file = folder.path().join("a/b/manifest.json");
        let error = place
            .store
            .download(&reference.manifest, &file)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("manifest.json"), "{error}");
    }
}

#[tokio::test]
async fn stores_without_conditional_create_are_refused() {
    let mut faulty = Faulty::new();
    faulty.conditional = false;
    let place = over(&Arc::new(faulty));
    let error = place
        .store
        .save(&owner(1), snapshot(1, 1.0))
        .await
        .unwrap_err();
    assert!(matches!(error, CheckpointError::NoConditionalCreate { .. }));
    let store = CheckpointStore::open("http://127.0.0.1:1/job").unwrap();
    let message = store
        .save(&owner(1), snapshot(1, 1.0))
        .await
        .unwrap_err()
        .to_string();
    assert!(message.contains("http://127.0.0.1:1/job"), "{message}");
}

#[tokio::test]
async fn bad_snapshots_are_refused() {
    for place in places("bad") {
        let mut bad = snapshot(1, 1.0);
        bad.tensors[0].shape = vec![41];
        let message = place
            .store
            .save(&owner(1), bad)
            .await
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "snapshot: tensor `model/w` has shape [41] but 40 values"
        );
        assert_eq!(place.names().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_no_reason_to_fall_back() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let store = CheckpointStore::open(&blocked.join("job").display().to_string()).unwrap();
    let error = store.save(&owner(1), snapshot(1, 1.0)).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains("file/job"), "{error}");
}

const QUICK: Retry = Retry {
    attempts: 3,
    first_wait: Duration::from_millis(1),
};

type Results = Arc<Mutex<Vec<std::result::Result<CheckpointRef, CheckpointError>>>>;

fn uploader(runtime: &tokio::runtime::Runtime, place: &Place) -> (Uploader, Results) {
    let results = Results::default();
    let seen = Arc::clone(&results);
    let uploader = Uploader::start_with(
        runtime.handle(),
        place.store.clone(),
        owner(1),
        QUICK,
        move |result| seen.lock().unwrap().push(result),
    );
    (uploader, results)
}

#[test]
fn uploads_in_order_and_retries() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let faulty = Arc::new(Faulty::new());
    faulty.failures.store(2, Ordering::SeqCst);
    let place = over(&faulty);
    let (uploader, results) = uploader(&runtime, &place);
    for step in 0..5 {
        uploader.submit(snapshot(step, step as f32));
    }
    uploader.finish();
    let results = results.lock().unwrap();
    let steps: Vec<u64> = results.iter().map(|r| r.as_ref().unwrap().step).collect();
    assert_eq!(steps, [0, 1, 2, 3, 4]);
    let last = results[4].as_ref().unwrap();
    let loaded = runtime.block_on(place.store.load_ref(last)).unwrap();
    assert_eq!(loaded, snapshot(4, 4.0));
}

#[test]
fn an_upload_that_keeps_failing_is_reported_and_the_next_goes_on() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let faulty = Arc::new(Faulty::new());
    faulty.room.store(0, Ordering::SeqCst);
    let place = over(&faulty);
    let (uploader, results) = uploader(&runtime, &place);
    uploader.submit(snapshot(1, 1.0));
    wait_until(|| results.lock().unwrap().len() == 1);
    faulty.room.store(i64::MAX, Ordering::SeqCst);
    uploader.submit(snapshot(2, 2.0));
    runtime.block_on(uploader.finished());
    let results = results.lock().unwrap();
    let message = results[0].as_ref().unwrap_err().to_string();
    assert!(
        message.contains("faulty://job") && message.contains("No space left"),
        "{message}"
    );
    assert_eq!(results[1].as_ref().unwrap().step, 2);
}

#[test]
fn the_trainer_waits_while_too_many_are_in_flight() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let faulty = Arc::new(Faulty::new());
    faulty.gate.forget_permits(usize::MAX);
    let place = over(&faulty);
    let (uploader, results) = uploader(&runtime, &place);
    let submitted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&submitted);
    let trainer = std::thread::spawn(move || {
        for step in 0..6 {
            uploader.submit(snapshot(step, step as f32));
            count.fetch_add(1, Ordering::SeqCst);
        }
        uploader.finish();
    });
    // One is in work and one waits; the third submit has not returned.
    wait_until(|| submitted.load(Ordering::SeqCst) == 2);
    faulty.gate.add_permits(3);
    assert_eq!(submitted.load(Ordering::SeqCst), 2);
    assert!(results.lock().unwrap().is_empty());
    faulty.gate.add_permits(1_000);
    trainer.join().unwrap();
    assert_eq!(results.lock().unwrap().len(), 6);
}

#[test]
fn nothing_is_waited_for_once_it_is_given_up() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let faulty = Arc::new(Faulty::new());
    faulty.gate.forget_permits(usize::MAX);
    let place = over(&faulty);
    let (uploader, results) = uploader(&runtime, &place);
    // One is in work and one waits: there is room until then.
    for step in 0..2 {
        uploader.submit(snapshot(step, 1.0));
    }
    assert!(!uploader.submit_unless(snapshot(2, 1.0), std::future::ready(())));
    assert!(!uploader.finish_unless(std::future::ready(())));
    wait_until(|| Arc::strong_count(&results) == 1);
    assert!(results.lock().unwrap().is_empty());
}

#[test]
fn a_dropped_uploader_gives_up() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let faulty = Arc::new(Faulty::new());
    faulty.gate.forget_permits(usize::MAX);
    let place = over(&faulty);
    let (uploader, results) = uploader(&runtime, &place);
    uploader.submit(snapshot(1, 1.0));
    drop(uploader);
    // The callback, and with it the results' second owner, goes when the task ends.
    wait_until(|| Arc::strong_count(&results) == 1);
    assert!(results.lock().unwrap().is_empty());
    assert!(
        runtime
            .block_on(place.store.manifests(TrialId(3)))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_panic_of_the_callback_goes_on_in_finish() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = over(&Arc::new(Faulty::new()));
    let store = place.store.clone();
    let uploader = Uploader::start(runtime.handle(), store, owner(1), |_| panic!("callback"));
    uploader.submit(snapshot(1, 1.0));
    let finish = std::panic::AssertUnwindSafe(|| uploader.finish());
    assert!(std::panic::catch_unwind(finish).is_err());
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited for a minute");
        std::thread::yield_now();
    }
}
