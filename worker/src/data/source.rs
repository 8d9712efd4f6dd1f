//! Opens an object as a stream of bytes; `.gz` is unpacked. What the bytes mean is not known here.

use std::io::{BufRead, BufReader, ErrorKind, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::{GetResultPayload, ObjectStoreExt};
use tokio::sync::mpsc;
use trainyard_common::store_url;

use super::DataError;

/// Chunks that are on their way between the store and the parser.
const CHUNKS_IN_FLIGHT: usize = 16;
/// Read ahead of the parser.
const BUFFER_BYTES: usize = 256 * 1024;
/// First bytes of a gzip member (RFC 1952). Neither an IDX nor a CSV of numbers begins so.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const FASHION_MNIST: &str = "/usr/share/datasets/fashion-mnist/";

/// Bytes of one object, unpacked. Read it off the runtime's threads.
pub(crate) type Stream = Box<dyn BufRead + Send>;

/// An object whose first byte has not been read yet.
pub(crate) struct Object {
    url: String,
    raw: Box<dyn Read + Send>,
}

impl Object {
    /// Bytes as they are, or unpacked if they are gzip. Blocks.
    pub(crate) fn unpack(self) -> Result<Stream, DataError> {
        let mut raw = BufReader::with_capacity(BUFFER_BYTES, self.raw);
        let start = raw.fill_buf().map_err(|error| failed(&self.url, &error))?;
        if start.starts_with(&GZIP_MAGIC) {
            let unpacked = MultiGzDecoder::new(raw);
            return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, unpacked)));
        }
        Ok(Box::new(raw))
    }
}

/// Finds an object and begins to read it.
pub(crate) async fn open(url: &str) -> Result<Object, DataError> {
    let (store, path) = store_url::open(url)?;
    let found = store
        .get(&path)
        .await
        .map_err(|error| not_opened(url, &error))?;
    let raw: Box<dyn Read + Send> = match found.payload {
        GetResultPayload::File(file, _) => Box::new(file),
        GetResultPayload::Stream(stream) => Box::new(Chunks::start(stream)),
    };
    Ok(Object {
        url: url.to_owned(),
        raw,
    })
}

/// Something that changes when an object's content does. Empty where the store has no such thing.
pub(crate) async fn version(url: &str) -> Result<String, DataError> {
    let (store, path) = store_url::open(url)?;
    if store_url::is_http(url) {
        return Ok(String::new());
    }
    let meta = store.head(&path).await;
    let meta = meta.map_err(|error| not_opened(url, &error))?;
    Ok(format!(
        "{} {} {:?}",
        meta.size, meta.last_modified, meta.e_tag
    ))
}

fn not_opened(url: &str, error: &object_store::Error) -> DataError {
    if matches!(error, object_store::Error::NotFound { .. }) {
        return DataError::Missing {
            url: url.to_owned(),
            hint: if url.contains(FASHION_MNIST) {
                " (on Debian: `apt install dataset-fashion-mnist`)"
            } else {
                ""
            },
        };
    }
    DataError::Read {
        url: url.to_owned(),
        reason: store_url::describe(error),
    }
}

/// Reading on failed.
pub(crate) fn failed(url: &str, error: &std::io::Error) -> DataError {
    DataError::Read {
        url: url.to_owned(),
        reason: match error.kind() {
            ErrorKind::UnexpectedEof => "the compressed data ends too early".to_owned(),
            _ => error.to_string(),
        },
    }
}

/// A stream of a store as a reader, with a bounded channel in between.
struct Chunks {
    chunks: mpsc::Receiver<object_store::Result<Bytes>>,
    current: Bytes,
}

impl Chunks {
    /// Pumps on the current runtime until the end, an error, or until the reader is dropped.
    fn start(mut stream: BoxStream<'static, object_store::Result<Bytes>>) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_IN_FLIGHT);
        tokio::spawn(async move {
            while let Some(chunk) = stream.next().await {
                let last = chunk.is_err();
                if sender.send(chunk).await.is_err() || last {
                    return;
                }
            }
        });
        Self {
            chunks,
            current: Bytes::new(),
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                None => return Ok(0),
                Some(Ok(chunk)) => self.current = chunk,
                Some(Err(error)) => {
                    return Err(std::io::Error::other(store_url::describe(&error)));
                }
            }
        }
        let count = to.len().min(self.current.len());
        self.current.copy_to_slice(&mut to[..count]);
        Ok(count)
    }
}
