//! Opens an object as a stream of bytes; `.gz` is unpacked. What the bytes mean is not known here.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::ObjectStoreExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use trainyard_common::store_url;

use super::DataError;
use super::allowance::{Allowance, Refusal};

/// Chunks that are on their way between the store and the parser.
const CHUNKS_IN_FLIGHT: usize = 16;
/// Read ahead of the parser.
const BUFFER_BYTES: usize = 256 * 1024;
/// First bytes of a gzip member (RFC 1952). Neither an IDX nor a CSV of numbers begins so.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const FASHION_MNIST: &str = "/usr/share/datasets/fashion-mnist/";

/// How long a store may send nothing.
const STALL: Duration = Duration::from_secs(30);

/// Bytes of one object, unpacked. Read it off the runtime's threads.
pub(crate) type Stream = Box<dyn BufRead + Send>;

/// An object whose first byte has not been read yet.
pub(crate) struct Object {
    url: String,
    raw: Box<dyn Read + Send>,
    allowance: Arc<Allowance>,
}

impl Object {
    /// Bytes as they are, or unpacked if they are gzip. Blocks.
    pub(crate) fn unpack(self) -> Result<Stream, DataError> {
        let stored = Counted {
            inner: self.raw,
            allowance: Arc::clone(&self.allowance),
            count: Allowance::stored,
        };
        let mut raw = BufReader::with_capacity(BUFFER_BYTES, stored);
        let start = raw.fill_buf().map_err(|error| failed(&self.url, &error))?;
        if start.starts_with(&GZIP_MAGIC) {
            let unpacked = Counted {
                inner: Unpacked(MultiGzDecoder::new(raw)),
                allowance: self.allowance,
                count: Allowance::unpacked,
            };
            return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, unpacked)));
        }
        Ok(Box::new(raw))
    }
}

/// Counts what is read, and reads no more once that is too much or the load is not wanted any more.
struct Counted<R> {
    inner: R,
    allowance: Arc<Allowance>,
    count: fn(&Allowance, u64) -> Result<(), Refusal>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        self.allowance.wanted()?;
        let block = to.len().min(BUFFER_BYTES);
        let count = self.inner.read(&mut to[..block])?;
        if count == 0 {
            // What ended because it was not wanted any more is not whole.
            self.allowance.wanted()?;
        }
        (self.count)(&self.allowance, count as u64)?;
        Ok(count)
    }
}

/// Finds an object and begins to read it.
pub(crate) async fn open(url: &str, allowance: &Arc<Allowance>) -> Result<Object, DataError> {
    let (store, path) = store_url::open(url)?;
    let (raw, bytes) = match store_url::local_path(url) {
        Some(path) => open_file(url, path).await?,
        None => {
            let answer = unless_cancelled(allowance.cancel(), store.get(&path)).await?;
            let found = answer.map_err(|error| not_opened(url, &error))?;
            let bytes = found.meta.size;
            let stream = found.into_stream();
            let chunks = Chunks::start(stream, allowance.cancel().clone());
            (Box::new(chunks) as Box<dyn Read + Send>, bytes)
        }
    };
    let fits = allowance.announced(bytes);
    fits.map_err(|refusal| refusal.of(url))?;
    Ok(Object {
        url: url.to_owned(),
        raw,
        allowance: Arc::clone(allowance),
    })
}

/// All bytes of an object.
pub(crate) async fn whole(object: Object) -> Result<Vec<u8>, DataError> {
    let url = object.url.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let (url, mut bytes) = (object.url.clone(), Vec::new());
        let read = object.unpack()?.read_to_end(&mut bytes);
        read.map_err(|error| failed(&url, &error))?;
        Ok(bytes)
    });
    let read = reading.await;
    read.unwrap_or_else(|error| Err(failed(&url, &std::io::Error::other(error))))
}

async fn unless_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, DataError> {
    let done = cancel.run_until_cancelled(work).await;
    done.ok_or(DataError::Cancelled)
}

/// Only regular files: others may have no end, or keep whoever reads them waiting for ever. What a
/// symbolic link leads to counts.
async fn open_file(url: &str, path: PathBuf) -> Result<(Box<dyn Read + Send>, u64), DataError> {
    let opening = move || {
        // Opening a pipe would wait for its writer.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        let kind = opened.metadata()?;
        Ok((opened, kind))
    };
    let opened = tokio::task::spawn_blocking(opening).await;
    let opened = opened.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    let (file, kind) = opened.map_err(|error| file_not_opened(url, &error))?;
    regular(url, &kind)?;
    if is_of_the_kernel(&file) {
        return Err(DataError::NotAFile {
            url: url.to_owned(),
            found: "made by the kernel as it is read",
        });
    }
    Ok((Box::new(file), kind.len()))
}

/// Whether a file is one of those that are no data, say that they are empty, and may have no end: `/proc/kmsg`.
#[allow(unsafe_code)]
fn is_of_the_kernel(file: &File) -> bool {
    const KINDS: [libc::c_long; 6] = [
        libc::PROC_SUPER_MAGIC,
        libc::SYSFS_MAGIC,
        libc::DEBUGFS_MAGIC,
        libc::TRACEFS_MAGIC,
        libc::CGROUP_SUPER_MAGIC,
        libc::CGROUP2_SUPER_MAGIC,
    ];
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the file is open for as long as it is borrowed. The call fills what it is given where it returns 0,
    // and only then is it read.
    unsafe {
        libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) == 0
            && KINDS.contains(&found.assume_init().f_type)
    }
}

fn file_not_opened(url: &str, error: &std::io::Error) -> DataError {
    match error.kind() {
        ErrorKind::NotFound => missing(url),
        _ => DataError::Read {
            url: url.to_owned(),
            reason: error.to_string(),
        },
    }
}

fn regular(url: &str, kind: &Metadata) -> Result<(), DataError> {
    if kind.is_file() {
        return Ok(());
    }
    Err(DataError::NotAFile {
        url: url.to_owned(),
        found: kind_of(kind.file_type()),
    })
}

fn kind_of(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Something that changes when an object's content does. Empty where the store has no such thing.
pub(crate) async fn version(url: &str, cancel: &CancellationToken) -> Result<String, DataError> {
    let (store, path) = store_url::open(url)?;
    if store_url::is_http(url) {
        return Ok(String::new());
    }
    // The store would open the file, which may be a pipe.
    if let Some(file) = store_url::local_path(url) {
        let found = tokio::fs::metadata(file).await;
        let found = found.map_err(|error| file_not_opened(url, &error))?;
        regular(url, &found)?;
        return Ok(format!("{} {:?}", found.len(), found.modified().ok()));
    }
    let meta = unless_cancelled(cancel, store.head(&path)).await?;
    let meta = meta.map_err(|error| not_opened(url, &error))?;
    Ok(format!(
        "{} {} {:?}",
        meta.size, meta.last_modified, meta.e_tag
    ))
}

fn not_opened(url: &str, error: &object_store::Error) -> DataError {
    if matches!(error, object_store::Error::NotFound { .. }) {
        return missing(url);
    }
    DataError::Read {
        url: url.to_owned(),
        reason: store_url::describe(error),
    }
}

fn missing(url: &str) -> DataError {
    DataError::Missing {
        url: url.to_owned(),
        hint: if url.contains(FASHION_MNIST) {
            " (on Debian: `apt install dataset-fashion-mnist`)"
        } else {
            ""
        },
    }
}

/// Reading on failed: the store, or what it holds is not gzip to the end, or it is too much.
pub(crate) fn failed(url: &str, error: &std::io::Error) -> DataError {
    let refusal = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Refusal>());
    if let Some(refusal) = refusal {
        return refusal.clone().of(url);
    }
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
    chunks: mpsc::Receiver<Result<Bytes, String>>,
    current: Bytes,
}

impl Chunks {
    /// Pumps on the current runtime until the end, an error, a stall, or until nobody wants more.
    fn start(
        mut stream: BoxStream<'static, object_store::Result<Bytes>>,
        cancel: CancellationToken,
    ) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let pump = async move {
            loop {
                let chunk = match tokio::time::timeout(STALL, stream.next()).await {
                    Ok(None) => return,
                    Ok(Some(Ok(chunk))) => Ok(chunk),
                    Ok(Some(Err(error))) => Err(store_url::describe(&error)),
                    Err(_) => Err(format!("nothing came for {} s", STALL.as_secs())),
                };
                let last = chunk.is_err();
                if sender.send(chunk).await.is_err() || last {
                    return;
                }
            }
        };
        tokio::spawn(async move { cancel.run_until_cancelled(pump).await });
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
                Some(Err(reason)) => return Err(std::io::Error::other(reason)),
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
    use crate::data::Limits;

    /// Some thousand bytes that do not compress to nothing.
    fn packed() -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        (0..5_000u32).for_each(|i| write!(encoder, "{},", i.wrapping_mul(2_654_435_761)).unwrap());
        encoder.finish().unwrap()
    }

    /// What reading these chunks of a store to their end fails with.
    async fn failure(chunks: Vec<object_store::Result<Bytes>>) -> DataError {
        let cancel = CancellationToken::new();
        let raw = Box::new(Chunks::start(stream::iter(chunks).boxed(), cancel.clone()));
        let allowance = Arc::new(Allowance::new(Limits::of_memory(1 << 20), cancel));
        let url = "memory://a.gz".to_owned();
        let reading = move || {
            let mut stream = Object {
                url,
                raw,
                allowance,
            }
            .unpack()?;
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

    /// Reads a store's stream to its end on a thread of its own, within these limits.
    fn reading(
        stream: BoxStream<'static, object_store::Result<Bytes>>,
        limits: Limits,
        cancel: &CancellationToken,
    ) -> tokio::sync::oneshot::Receiver<DataError> {
        let raw = Box::new(Chunks::start(stream, cancel.clone()));
        let allowance = Arc::new(Allowance::new(limits, cancel.clone()));
        let url = "http://host/a.csv".to_owned();
        let (ended, end) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let read = Object {
                url,
                raw,
                allowance,
            }
            .unpack()
            .and_then(|mut stream| {
                let copied = std::io::copy(&mut stream, &mut std::io::sink());
                copied.map_err(|error| failed("http://host/a.csv", &error))
            });
            ended.send(read.unwrap_err())
        });
        end
    }

    #[tokio::test]
    async fn a_source_without_end_is_read_up_to_the_limit_or_until_it_is_cancelled() {
        let endless = || stream::repeat_with(|| Ok(Bytes::from_static(&[b'1'; 1 << 16]))).boxed();
        let cancel = CancellationToken::new();
        let limits = Limits {
            bytes: 10 << 20,
            memory_bytes: 0,
        };
        let error = reading(endless(), limits, &cancel).await.unwrap();
        assert!(
            error.to_string().contains("are more than 10485760"),
            "{error}"
        );
        let limits = Limits {
            bytes: u64::MAX,
            memory_bytes: 0,
        };
        let end = reading(endless(), limits, &cancel);
        cancel.cancel();
        let error = end.await.unwrap();
        assert!(matches!(error, DataError::Cancelled), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_sends_nothing_any_more_is_given_up_and_tried_again() {
        let cancel = CancellationToken::new();
        let first = stream::once(async { Ok(Bytes::from_static(b"1,2\n")) });
        let stalls = first.chain(stream::pending()).boxed();
        let error = reading(stalls, Limits::of_memory(1 << 20), &cancel)
            .await
            .unwrap();
        assert!(
            error.to_string().contains("nothing came for 30 s"),
            "{error}"
        );
        assert!(error.is_retryable());
        // While it waits it can be cancelled.
        let pending = reading(
            stream::pending().boxed(),
            Limits::of_memory(1 << 20),
            &cancel,
        );
        cancel.cancel();
        assert!(matches!(pending.await.unwrap(), DataError::Cancelled));
    }
}
