//! What ranks say to each other over a connection: one handshake, then frames.
//!
//! Handshake: `TYCW`, then a 32-bit length and JSON, each way. Frame: a header of 24 bytes (`TYCF`,
//! kind, three zero bytes, sequence, length) and the payload. All numbers are little-endian.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Cancel;

/// Version of what follows the handshake's magic.
pub(crate) const PROTOCOL: u32 = 1;
const HANDSHAKE_MAGIC: [u8; 4] = *b"TYCW";
const FRAME_MAGIC: [u8; 4] = *b"TYCF";
pub(crate) const HEADER_BYTES: usize = 24;
/// Far above a hello's ids, token and cpu kind.
const MAX_HANDSHAKE_BYTES: u32 = 16 * 1024;
/// 4 billion parameters in one slice.
const MAX_FRAME_BYTES: u64 = 16 << 30;
/// Reserved before bytes have come, at most: a wrong length must not take all memory.
const MAX_RESERVED: usize = 64 << 20;
/// How often a waiting handshake looks at its deadline and its cancel switch.
const POLL: Duration = Duration::from_millis(50);

/// The first message on a connection, from the rank that connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    pub(crate) job: String,
    pub(crate) trial: u32,
    pub(crate) attempt: u32,
    pub(crate) generation: u64,
    pub(crate) rank: usize,
    /// The rank that is called: several of one attempt may share an address.
    pub(crate) to: usize,
    pub(crate) world_size: usize,
    pub(crate) token: String,
    pub(crate) cpu_kind: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Welcome,
    MixedCpu { ours: String },
    Refused { reason: String },
}

/// Ends a handshake's waits.
pub(crate) struct Patience<'a> {
    pub(crate) until: Instant,
    pub(crate) cancel: Option<&'a Cancel>,
}

impl Patience<'_> {
    pub(crate) fn is_over(&self) -> bool {
        self.is_cancelled() || Instant::now() >= self.until
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_some_and(Cancel::is_cancelled)
    }
}

pub(crate) fn send_handshake(mut stream: &TcpStream, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let mut bytes = HANDSHAKE_MAGIC.to_vec();
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(body);
    stream.write_all(&bytes)
}

pub(crate) fn receive_handshake<T: DeserializeOwned>(
    stream: &TcpStream,
    patience: &Patience<'_>,
) -> io::Result<T> {
    stream.set_read_timeout(Some(POLL))?;
    let mut head = [0; 8];
    read_patiently(stream, &mut head, patience)?;
    if head[..4] != HANDSHAKE_MAGIC {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "not a rank of this program: wrong first bytes",
        ));
    }
    let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    if length > MAX_HANDSHAKE_BYTES {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            format!("handshake of {length} bytes, at most {MAX_HANDSHAKE_BYTES} are accepted"),
        ));
    }
    let mut body = vec![0; length as usize];
    read_patiently(stream, &mut body, patience)?;
    stream.set_read_timeout(None)?;
    Ok(serde_json::from_slice(&body)?)
}

fn read_patiently(
    mut stream: &TcpStream,
    buffer: &mut [u8],
    patience: &Patience<'_>,
) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        if patience.is_over() {
            return Err(ErrorKind::TimedOut.into());
        }
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Partials of the receiver's slice, and of the scalars.
    Partials = 1,
    /// The sender's finished slice.
    Slice = 2,
    /// A contribution to an all-gather.
    Gather = 3,
    /// The sender needs nothing more and leaves.
    Bye = 4,
    /// The sender lives.
    Ping = 5,
}

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) payload: Vec<u8>,
}

/// An empty frame with room for `payload` bytes, to be filled and then sealed.
pub(crate) fn open_frame(payload: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload);
    bytes.resize(HEADER_BYTES, 0);
    bytes
}

/// Writes the header of a frame whose payload is complete.
pub(crate) fn seal_frame(bytes: &mut [u8], kind: Kind, sequence: u64) {
    let length = (bytes.len() - HEADER_BYTES) as u64;
    bytes[..4].copy_from_slice(&FRAME_MAGIC);
    bytes[4..8].copy_from_slice(&[kind as u8, 0, 0, 0]);
    bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
    bytes[16..24].copy_from_slice(&length.to_le_bytes());
}

/// Reads one frame. The end of the stream before its first byte is `UnexpectedEof`.
pub(crate) fn read_frame(stream: &mut impl Read) -> io::Result<Frame> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    if header[..4] != FRAME_MAGIC {
        return Err(io::Error::new(ErrorKind::InvalidData, "no frame header"));
    }
    let kind = match header[4] {
        1 => Kind::Partials,
        2 => Kind::Slice,
        3 => Kind::Gather,
        4 => Kind::Bye,
        5 => Kind::Ping,
        other => {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("frame of unknown kind {other}"),
            ));
        }
    };
    let (sequence, length) = (number(8), number(16));
    if length > MAX_FRAME_BYTES {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            format!("frame of {length} bytes, at most {MAX_FRAME_BYTES} are accepted"),
        ));
    }
    let mut payload = Vec::with_capacity((length as usize).min(MAX_RESERVED));
    stream.take(length).read_to_end(&mut payload)?;
    if (payload.len() as u64) < length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(Frame {
        kind,
        sequence,
        payload,
    })
}

pub(crate) fn put_f32(bytes: &mut Vec<u8>, values: &[f32]) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

pub(crate) fn put_f64(bytes: &mut Vec<u8>, values: &[f64]) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// Fills `values` from exactly as many bytes.
pub(crate) fn get_f32(bytes: &[u8], values: &mut [f32]) {
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
        *value = f32::from_le_bytes(*bytes);
    }
}

pub(crate) fn get_f64(bytes: &[u8], values: &mut [f64]) {
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
        *value = f64::from_le_bytes(*bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut bytes = open_frame(payload.len());
        bytes.extend(payload);
        seal_frame(&mut bytes, Kind::Slice, 7);
        bytes
    }

    #[test]
    fn frames_come_back() {
        let mut bytes = frame(b"abc");
        bytes.extend(frame(b""));
        let mut reader = bytes.as_slice();
        let first = read_frame(&mut reader).unwrap();
        assert_eq!(
            (first.kind, first.sequence, first.payload.as_slice()),
            (Kind::Slice, 7, b"abc".as_slice())
        );
        assert!(read_frame(&mut reader).unwrap().payload.is_empty());
        assert_eq!(
            read_frame(&mut reader).unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn torn_and_foreign_bytes_are_errors() {
        let good = frame(b"abcdef");
        for cut in 0..good.len() {
            let error = read_frame(&mut &good[..cut]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "cut at {cut}");
        }
        let mut foreign = good.clone();
        foreign[0] = b'X';
        assert!(read_frame(&mut foreign.as_slice()).is_err());
        let mut unknown = good.clone();
        unknown[4] = 9;
        assert!(read_frame(&mut unknown.as_slice()).is_err());
        let mut endless = good;
        endless[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        let error = read_frame(&mut endless.as_slice()).unwrap_err();
        assert!(error.to_string().contains("at most"), "{error}");
    }

    #[test]
    fn numbers_keep_their_bits() {
        let values = [0.0, -0.0, 1.5, f32::MIN_POSITIVE, f32::INFINITY];
        let mut bytes = Vec::new();
        put_f32(&mut bytes, &values);
        let mut back = [9.0; 5];
        get_f32(&bytes, &mut back);
        assert_eq!(values.map(f32::to_bits), back.map(f32::to_bits));
        let mut bytes = Vec::new();
        put_f64(&mut bytes, &[1e-300, -0.0]);
        let mut back = [9.0; 2];
        get_f64(&bytes, &mut back);
        assert_eq!(back.map(f64::to_bits), [1e-300, -0.0].map(f64::to_bits));
    }
}
