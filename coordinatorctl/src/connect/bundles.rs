//! The client's questions about bundles of code, and how one is sent.

use bytes::Bytes;
use trainyard_proto::v1;

use super::Client;
use super::link::Retry;
use crate::exit::Outcome;

/// Bytes of one message: well below what a coordinator takes at a time.
const PIECE: usize = 512 * 1024;

/// A packed bundle and where it belongs.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    /// Empty: where the coordinator keeps checkpoints.
    pub(crate) storage_url: String,
    pub(crate) digest: String,
    pub(crate) bytes: Bytes,
}

impl Bundle {
    /// The messages in which it is sent.
    fn pieces(&self) -> Vec<v1::UploadBundleRequest> {
        let first = v1::UploadBundleRequest {
            storage_url: self.storage_url.clone(),
            digest: self.digest.clone(),
            bytes: self.bytes.len() as u64,
            chunk: Vec::new(),
        };
        let chunks = self
            .bytes
            .chunks(PIECE)
            .map(|chunk| v1::UploadBundleRequest {
                chunk: chunk.to_vec(),
                ..Default::default()
            });
        std::iter::once(first).chain(chunks).collect()
    }
}

impl Client {
    /// Whether the coordinator has a bundle, and how long one may be.
    pub(crate) async fn find_bundle(&self, bundle: &Bundle) -> Outcome<v1::FindBundleResponse> {
        let question = v1::FindBundleRequest {
            storage_url: bundle.storage_url.clone(),
            digest: bundle.digest.clone(),
            bytes: bundle.bytes.len() as u64,
        };
        self.ask(question, async |mut service, question| {
            service.find_bundle(question).await
        })
        .await
    }

    /// Sends a bundle, however long that takes; again where the connection is lost.
    pub(crate) async fn upload_bundle(&self, bundle: &Bundle) -> Outcome {
        let mut retry = Retry::from_first_failure();
        loop {
            let (turn, answer) = match self.link.transfer().await {
                (turn, Ok(mut service)) => {
                    let pieces = tokio_stream::iter(bundle.pieces());
                    (turn, service.upload_bundle(pieces).await)
                }
                (turn, Err(status)) => (turn, Err(status)),
            };
            match answer {
                Ok(_) => {
                    self.link.succeeded(turn).await;
                    return Ok(());
                }
                Err(status) => retry.again(&self.link, turn, status).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_sent_in_pieces_that_make_it_up() {
        let bundle = Bundle {
            storage_url: "s3://b".to_owned(),
            digest: "d".to_owned(),
            bytes: vec![7; 2 * PIECE + 1].into(),
        };
        let pieces = bundle.pieces();
        assert_eq!((pieces[0].bytes, pieces.len()), (2 * PIECE as u64 + 1, 4));
        let whole: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.chunk).collect();
        assert_eq!(whole, bundle.bytes);
    }
}
