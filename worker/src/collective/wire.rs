//! What ranks say to each other over a connection: one handshake, then frames.
//!
//! Handshake: `TYCW`, then a 32-bit length and JSON, each way. Frame: a header of 40 bytes (`TYCF`,
//! kind, three zero bytes, sequence, length, checksum of the payload, checksum of the header before it)
//! and the payload. All numbers are little-endian.
//!
//! TCP's own checksum has 16 bits and is often left to the network card, so that a fault of a card, a
//! bus or a middle box comes through as other numbers. The header has a checksum of its own, as its
//! length is relied on before the payload is there. CRC-64/NVME was chosen by its cost: it runs at the
//! speed of memory (40 GB/s on one AVX-512 core, where BLAKE3 makes 8), and of damage that is no attack
//! it overlooks one in 2^64.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crc_fast::{CrcAlgorithm, checksum};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Cancel;

/// Version of what follows the handshake's magic.
/// 2: frames carry checksums.
pub(crate) const PROTOCOL: u32 = 2;
const HANDSHAKE_MAGIC: [u8; 4] = *b"TYCW";
const FRAME_MAGIC: [u8; 4] = *b"TYCF";
pub(crate) const HEADER_BYTES: usize = 40;
/// Where the checksums stand in a header: of the payload, and of the header up to here.
const PAYLOAD_SUM: usize = 24;
const HEADER_SUM: usize = 32;
const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc64Nvme;
/// Far above a hello's ids, token and cpu kind.
const MAX_HANDSHAKE_BYTES: u32 = 16 * 1024;
/// Partials and slices: 4 billion parameters in one slice.
const MAX_VECTOR_BYTES: u64 = 16 << 30;
/// Gatherings: an evaluation has 40 bytes for each batch of a rank's part, so these are 26 million batches.
const MAX_GATHER_BYTES: u64 = 1 << 30;
/// Read at once: a length is believed only as far as bytes have come, so that it alone takes no memory.
pub(crate) const READ_BYTES: usize = 64 << 20;
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
    let mut body = vec![0; handshake_length(&head)?];
    read_patiently(stream, &mut body, patience)?;
    stream.set_read_timeout(None)?;
    Ok(serde_json::from_slice(&body)?)
}

/// How long a handshake's message is, by the bytes before it.
pub(crate) fn handshake_length(head: &[u8; 8]) -> io::Result<usize> {
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
    Ok(length as usize)
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

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [
            Self::Partials,
            Self::Slice,
            Self::Gather,
            Self::Bye,
            Self::Ping,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }

    /// The longest payload.
    fn max_bytes(self) -> u64 {
        match self {
            Self::Partials | Self::Slice => MAX_VECTOR_BYTES,
            Self::Gather => MAX_GATHER_BYTES,
            Self::Bye | Self::Ping => 0,
        }
    }
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

/// Writes the header of a frame whose payload is complete, but for its checksums.
pub(crate) fn seal_frame(bytes: &mut [u8], kind: Kind, sequence: u64) {
    let length = (bytes.len() - HEADER_BYTES) as u64;
    bytes[..4].copy_from_slice(&FRAME_MAGIC);
    bytes[4..8].copy_from_slice(&[kind as u8, 0, 0, 0]);
    bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
    bytes[16..PAYLOAD_SUM].copy_from_slice(&length.to_le_bytes());
}

/// Writes the checksums of a sealed frame: the writing thread's work.
pub(crate) fn sign_frame(bytes: &mut [u8]) {
    let (header, payload) = bytes.split_at_mut(HEADER_BYTES);
    let sum = checksum(ALGORITHM, payload);
    header[PAYLOAD_SUM..HEADER_SUM].copy_from_slice(&sum.to_le_bytes());
    let sum = checksum(ALGORITHM, &header[..HEADER_SUM]);
    header[HEADER_SUM..].copy_from_slice(&sum.to_le_bytes());
}

/// Reads one frame. The end of the stream before its first byte is `UnexpectedEof`; `InvalidData` is a
/// frame that was damaged on its way, or is none.
pub(crate) fn read_frame(stream: &mut impl Read) -> io::Result<Frame> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let head = read_header(&header)?;
    let payload = read_payload(stream, head.length)?;
    if checksum(ALGORITHM, &payload) != head.payload_sum {
        let Header {
            kind,
            sequence,
            length,
            ..
        } = head;
        return Err(damaged(format!(
            "the checksum of the {length} bytes of {kind:?} of operation {sequence} does not fit them"
        )));
    }
    Ok(Frame {
        kind: head.kind,
        sequence: head.sequence,
        payload,
    })
}

struct Header {
    kind: Kind,
    sequence: u64,
    length: u64,
    payload_sum: u64,
}

fn read_header(header: &[u8; HEADER_BYTES]) -> io::Result<Header> {
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    if header[..4] != FRAME_MAGIC {
        return Err(damaged("no frame header".to_owned()));
    }
    if checksum(ALGORITHM, &header[..HEADER_SUM]) != number(HEADER_SUM) {
        return Err(damaged(
            "the checksum of a frame's header does not fit it".to_owned(),
        ));
    }
    if header[5..8] != [0; 3] {
        return Err(damaged(
            "bytes of a frame's header that are to be 0 are not".to_owned(),
        ));
    }
    let Some(kind) = Kind::of(header[4]) else {
        return Err(damaged(format!("frame of unknown kind {}", header[4])));
    };
    let (length, most) = (number(16), kind.max_bytes());
    if length > most {
        return Err(damaged(format!(
            "{kind:?} of {length} bytes, at most {most} are accepted"
        )));
    }
    Ok(Header {
        kind,
        sequence: number(8),
        length,
        payload_sum: number(PAYLOAD_SUM),
    })
}

fn read_payload(stream: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    while (payload.len() as u64) < length {
        let next = (length - payload.len() as u64).min(READ_BYTES as u64);
        payload
            .try_reserve(next as usize)
            .map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
        if stream.by_ref().take(next).read_to_end(&mut payload)? < next as usize {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(payload)
}

fn damaged(reason: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
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
        sign_frame(&mut bytes);
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

    /// The catalogue's check value of CRC-64/NVME: ranks built from other versions must agree on it.
    #[test]
    fn the_checksum_is_that_of_the_catalogue() {
        assert_eq!(checksum(ALGORITHM, b"123456789"), 0xae8b_1486_0a79_9888);
    }

    #[test]
    fn torn_frames_and_every_flipped_bit_are_errors() {
        let good = frame(b"abcdef");
        for cut in 0..good.len() {
            let error = read_frame(&mut &good[..cut]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "cut at {cut}");
        }
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let error = read_frame(&mut bytes.as_slice()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "bit {bit}: {error}");
        }
    }

    /// Whole by their checksums, and still none of this protocol's.
    #[test]
    fn foreign_kinds_and_lengths_are_errors() {
        for (kind, length, expected) in [
            (9, 6, "unknown kind 9"),
            (0, 6, "unknown kind 0"),
            (2, u64::MAX, "at most 17179869184 are accepted"),
            (3, (1 << 30) + 1, "at most 1073741824 are accepted"),
            (5, 1, "at most 0 are accepted"),
        ] {
            let mut bytes = frame(b"abcdef");
            bytes[4] = kind;
            bytes[16..24].copy_from_slice(&u64::to_le_bytes(length));
            sign_frame(&mut bytes);
            let error = read_frame(&mut bytes.as_slice()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    /// As a newer protocol might use them, whose ranks the handshake refuses.
    #[test]
    fn bytes_that_are_to_be_0_are_0() {
        for at in 5..8 {
            let mut bytes = frame(b"abcdef");
            bytes[at] = 1;
            sign_frame(&mut bytes);
            let error = read_frame(&mut bytes.as_slice()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains("to be 0"), "{error}");
        }
    }

    /// A length alone takes no memory: what is reserved is bounded by what comes.
    #[test]
    fn a_long_frame_that_never_comes_takes_little() {
        let mut bytes = frame(b"abcdef");
        bytes[16..24].copy_from_slice(&u64::to_le_bytes(MAX_VECTOR_BYTES));
        sign_frame(&mut bytes);
        let error = read_frame(&mut bytes.as_slice()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
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
