//! Bundles of programs' code: whether they are there, taken in, and needed by a job that is submitted.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use tokio::sync::Semaphore;
use tonic::Status;
use trainyard_common::bundle as names;
use trainyard_common::spec::{Document, SpecErrors};
use trainyard_common::store_url;
use trainyard_proto::v1;

use super::Jobs;
use crate::bundles::{self, Naming};
use crate::driver::CallError;
use crate::grpc::status::ApiError;

/// Bundles that are taken in at once; each is held in memory until it is stored. Others wait.
static TAKING: Semaphore = Semaphore::const_new(2);

/// How long is waited for the next piece of a bundle; whoever sends one has it at hand.
const PIECE_PATIENCE: Duration = Duration::from_secs(30);

/// How long an upload waits for others: two of the longest take less over a slow line.
const TURN_PATIENCE: Duration = Duration::from_secs(120);

/// How long a submission waits while bundles are removed, which is a call or two to a store; less than clients wait.
const NAMING_PATIENCE: Duration = Duration::from_secs(15);

/// What is said of a folder that nobody has packed.
const UNPACKED: &str = "given without `bundle`: the folder is the submitter's, and was not packed. \
    `coordinatorctl submit` and `run` do that; another client sends a bundle by UploadBundle and names its digest in \
    `entrypoint.bundle`";

impl Jobs {
    pub(super) async fn has_bundle(
        &self,
        request: v1::FindBundleRequest,
    ) -> Result<v1::FindBundleResponse, ApiError> {
        let folder = self.place(&request.storage_url, &request.digest).await?;
        let found = bundles::find(&folder, &request.digest).await?;
        // One that has rotted is sent again.
        let fits = found == Some(request.bytes) && request.bytes <= self.bundle;
        let found = fits && bundles::is_whole(&folder, &request.digest).await?;
        Ok(v1::FindBundleResponse {
            found,
            max_bytes: self.bundle,
        })
    }

    pub(super) async fn take_bundle(
        &self,
        mut stream: impl Stream<Item = Result<v1::UploadBundleRequest, Status>> + Unpin,
    ) -> Result<v1::UploadBundleResponse, Status> {
        let first = next(&mut stream).await?;
        let Some(first) = first else {
            return Err(ApiError::field("digest", "no message", "a first message with it").into());
        };
        let (digest, bytes) = (first.digest.clone(), first.bytes);
        let folder = self.place(&first.storage_url, &digest).await?;
        if bytes > self.bundle {
            let most = self.bundle;
            let accepted = format!("at most {most} (the coordinator's max_bundle_mib)");
            return Err(ApiError::field("bytes", bytes, accepted).into());
        }
        let turn = tokio::time::timeout(TURN_PATIENCE, TAKING.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(
                ApiError::Busy("the coordinator takes in others' bundles".to_owned()).into(),
            );
        };
        let whole = gather(first, &mut stream).await?;
        let (hashed, found) = digest_of(whole).await?;
        if found != digest {
            return Err(ApiError::field("digest", digest, format!("{found}, of what came")).into());
        }
        bundles::store(&folder, &digest, hashed)
            .await
            .map_err(ApiError::from)?;
        tracing::info!(digest, bytes, "bundle stored");
        Ok(v1::UploadBundleResponse {})
    }

    /// Makes sure that the bundle of a job is where its workers look for it, and lets it stay there until the job
    /// is known.
    pub(super) async fn bundle_is_there(
        &self,
        document: &Document,
    ) -> Result<Option<Naming>, ApiError> {
        let job = document.job();
        let Some(entrypoint) = job.entrypoint.as_ref().filter(|given| given.is_shipped()) else {
            return Ok(None);
        };
        let Some(digest) = &entrypoint.bundle else {
            return Err(SpecErrors::one("entrypoint.ship", UNPACKED).into());
        };
        let storage = job.checkpoint_storage.url.as_deref();
        let folder = self.place(storage.unwrap_or_default(), digest).await?;
        let driver = self.driver.handle().await?;
        let naming = tokio::time::timeout(NAMING_PATIENCE, driver.bundles().naming()).await;
        let naming = naming.map_err(|_| {
            ApiError::Busy("a store does not answer from which bundles are removed".to_owned())
        })?;
        match bundles::find(&folder, digest).await? {
            Some(_) => Ok(Some(naming)),
            None => Err(ApiError::NoBundle {
                digest: digest.clone(),
                folder: store_url::redacted(&folder).into_owned(),
            }),
        }
    }

    /// The folder in which a bundle of jobs with this store lies.
    async fn place(&self, storage_url: &str, digest: &str) -> Result<String, ApiError> {
        if !names::is_digest(digest) {
            let accepted = "a BLAKE3 digest, 64 digits of 0-9 and a-f";
            return Err(ApiError::field("digest", format!("{digest:?}"), accepted));
        }
        let storage = Some(storage_url.to_owned()).filter(|url| !url.is_empty());
        if let Some(url) = &storage {
            let is_store = url.contains("://") && !store_url::is_http(url);
            if !is_store || store_url::open(url).is_err() {
                let accepted = "what checkpoint_storage.url may be, or nothing";
                return Err(ApiError::field("storage_url", format!("{url:?}"), accepted));
            }
        }
        let folder = self
            .driver
            .read(move |machine| machine.bundle_folder(storage.as_deref()));
        Ok(folder.await?.map_err(CallError::Rejected)?)
    }
}

async fn next(
    stream: &mut (impl Stream<Item = Result<v1::UploadBundleRequest, Status>> + Unpin),
) -> Result<Option<v1::UploadBundleRequest>, Status> {
    match tokio::time::timeout(PIECE_PATIENCE, stream.next()).await {
        Ok(message) => message.transpose(),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "the next piece of the bundle did not come within {} s",
            PIECE_PATIENCE.as_secs()
        ))),
    }
}

/// All pieces, which are as long together as the first said.
async fn gather(
    first: v1::UploadBundleRequest,
    stream: &mut (impl Stream<Item = Result<v1::UploadBundleRequest, Status>> + Unpin),
) -> Result<Bytes, Status> {
    let announced = usize::try_from(first.bytes).unwrap_or(usize::MAX);
    // As they come: who announces much and sends little takes little.
    let mut whole = BytesMut::from(first.chunk.as_slice());
    while whole.len() <= announced {
        match next(stream).await? {
            Some(more) => whole.extend_from_slice(&more.chunk),
            None => break,
        }
    }
    if whole.len() != announced {
        let came = match whole.len() > announced {
            true => "more".to_owned(),
            false => format!("{}", whole.len()),
        };
        let accepted = format!("as many as were sent ({came} came)");
        return Err(ApiError::field("bytes", announced, accepted).into());
    }
    Ok(whole.freeze())
}

/// The digest of a bundle, with the bundle: off the async threads.
async fn digest_of(whole: Bytes) -> Result<(Bytes, String), ApiError> {
    let hashing = tokio::task::spawn_blocking(move || {
        let digest = blake3::hash(&whole).to_hex().to_string();
        (whole, digest)
    });
    let hashed = hashing.await;
    hashed.map_err(|error| ApiError::Internal(format!("the bundle's digest: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(bytes: u64, chunk: &[u8]) -> v1::UploadBundleRequest {
        v1::UploadBundleRequest {
            bytes,
            chunk: chunk.to_vec(),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn a_bundle_is_as_long_as_it_says() {
        let pieces = |all: &[&[u8]]| {
            let all: Vec<_> = all.iter().map(|chunk| Ok(piece(0, chunk))).collect();
            futures::stream::iter(all)
        };
        let whole = gather(piece(5, b"ab"), &mut pieces(&[b"c", b"", b"de"])).await;
        assert_eq!(whole.unwrap(), &b"abcde"[..]);
        for more in [&[&b"c"[..]][..], &[b"cdef", b"never read"]] {
            let error = gather(piece(5, b"ab"), &mut pieces(more))
                .await
                .unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument);
            assert!(error.message().starts_with("bytes: 5"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_does_not_come_is_not_waited_for_without_end() {
        let mut silent = futures::stream::pending();
        let error = gather(piece(5, b"ab"), &mut silent).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::DeadlineExceeded);
    }
}
