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
            let unpacked = Unpacked(MultiGzDecoder::new(raw));
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

/// Reading on failed: the store, or what it holds is not gzip to the end.
pub(crate) fn failed(url: &str, error: &std::io::Error) -> DataError {
    let (url, reason) = (url.to_owned(), error.to_string());
    if error.get_ref().is_some_and(|inner| inner.is::<NotWhole>()) {
        return DataError::Corrupt { url, reason };
    }
    DataError::Read { url, reason }
}

/// Why compressed data cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotWhole(String);

/// Unpacks gzip, and tells its own errors ([`NotWhole`]) from those of the reader below.
struct Unpacked<R>(MultiGzDecoder<R>);

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(to).map_err(|error| {
            // What the system reports has a number, what a store reports is of the kind `Other`.
            let reason = match error.kind() {
                _ if error.raw_os_error().is_some() => return error,
                ErrorKind::UnexpectedEof => "the compressed data ends too early".to_owned(),
                ErrorKind::InvalidInput | ErrorKind::InvalidData => error.to_string(),
                _ => return error,
            };
            std::io::Error::new(ErrorKind::InvalidData, NotWhole(reason))
        })
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use futures::stream;

    use super::*;

    /// Some thousand bytes that do not compress to nothing.
    fn packed() -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        (0..5_000u32).for_each(|i| write!(encoder, "{},", i.wrapping_mul(2_654_435_761)).unwrap());
        encoder.finish().unwrap()
    }

    /// What reading these chunks of a store to their end fails with.
    async fn failure(chunks: Vec<object_store::Result<Bytes>>) -> DataError {
        let raw = Box::new(Chunks::start(stream::iter(chunks).boxed()));
        let url = "memory://a.gz".to_owned();
        let reading = move || {
            let mut stream = Object { url, raw }.unpack()?;
            let end = stream.read_to_end(&mut Vec::new());
            end.map_err(|error| failed("memory://a.gz", &error))
        };
        let read = tokio::task::spawn_blocking(reading).await.unwrap();
        read.unwrap_err()
    }

    #[tokio::test]
    async fn what_cannot_be_unpacked_is_not_tried_again() {
        let whole = packed();
        let with = |at: usize, value: u8| {
            let mut bytes = whole.clone();
            bytes[at] ^= value;
            bytes
        };
        let cases = [
            ("truncated", whole[..whole.len() / 2].to_vec()),
            ("within the header", whole[..5].to_vec()),
            ("without its checksum", whole[..whole.len() - 8].to_vec()),
            // The block's type becomes the one that is not allowed.
            ("corrupt block", with(10, !whole[10] & 0b110)),
            ("wrong checksum", with(whole.len() - 8, 1)),
            ("more after it", [&whole[..], b"and more"].concat()),
        ];
        for (name, bytes) in cases {
            let error = failure(vec![Ok(bytes.into())]).await;
            assert!(
                matches!(error, DataError::Corrupt { .. }),
                "{name}: {error}"
            );
            assert!(!error.is_retryable(), "{name}: {error}");
            let expected = "data: memory://a.gz is not a whole gzip file: ";
            assert!(error.to_string().starts_with(expected), "{name}: {error}");
        }
    }

    #[tokio::test]
    async fn a_store_that_fails_is_tried_again() {
        let whole = Bytes::from(packed());
        for end in [3, whole.len() / 2] {
            let gone = object_store::Error::Generic {
                store: "memory",
                source: "connection reset".into(),
            };
            let error = failure(vec![Ok(whole.slice(..end)), Err(gone)]).await;
            assert!(matches!(error, DataError::Read { .. }), "{error}");
            assert!(error.is_retryable(), "{error}");
            assert!(error.to_string().contains("connection reset"), "{error}");
        }
    }
}
