//! Records of a CSV file, each of a bounded length.

use std::io::Read;

use csv::ByteRecord;
use trainyard_common::spec::data::CsvSpec;

use super::DataError;
use super::allowance::Refusal;
use super::source::Stream;

/// The longest row, in bytes: a million numbers of 16 characters. The parser holds one row at a time,
/// and none of its memory is counted.
const MAX_ROW_BYTES: usize = 16 << 20;

/// Records of a file, without blank lines.
pub(super) struct Rows<'a> {
    spec: &'a CsvSpec,
    reader: csv::Reader<Terminated>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(spec: &'a CsvSpec, stream: Stream, delimiter: u8) -> Self {
        let stream = Terminated {
            stream,
            last: b'\n',
            row_bytes: 0,
        };
        // Carriage returns are trimmed. Were they terminators, a record's line feed would count only
        // with the record after it, and line numbers would be wrong.
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .terminator(csv::Terminator::Any(b'\n'))
            .trim(csv::Trim::All)
            .from_reader(stream);
        Self { spec, reader }
    }

    /// False at the end.
    pub(super) fn next(&mut self, record: &mut ByteRecord) -> Result<bool, DataError> {
        loop {
            self.reader.get_mut().row_bytes = 0;
            let more = self.reader.read_byte_record(record);
            let more = more.map_err(|error| self.unreadable(error))?;
            let blank = record.len() == 1 && record[0].is_empty();
            if !more || !blank {
                return Ok(more);
            }
        }
    }

    /// The line after the last record's.
    pub(super) fn end_line(&self) -> u64 {
        self.reader.position().line()
    }

    fn unreadable(&self, error: csv::Error) -> DataError {
        let line = error.position().map_or(0, csv::Position::line);
        match error.into_kind() {
            csv::ErrorKind::Io(error) => super::source::failed(&self.spec.url, &error),
            other => DataError::Line {
                url: self.spec.url.clone(),
                line,
                reason: format!("{other:?}"),
            },
        }
    }
}

/// Adds a line feed to a stream that does not end with one, so that every record ends alike, and ends
/// rows that have no end.
struct Terminated {
    stream: Stream,
    last: u8,
    /// Read since the last row was complete.
    row_bytes: usize,
}

impl Read for Terminated {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let mut count = self.stream.read(to)?;
        if count == 0 && self.last != b'\n' && !to.is_empty() {
            to[0] = b'\n';
            count = 1;
        }
        self.row_bytes += count;
        if self.row_bytes > MAX_ROW_BYTES {
            let limit = MAX_ROW_BYTES;
            return Err(Refusal::LongRow { limit }.into());
        }
        if count > 0 {
            self.last = to[count - 1];
        }
        Ok(count)
    }
}

/// Of a record's quoted fields.
pub(super) fn line_feeds(record: &ByteRecord) -> u64 {
    let bytes = record.as_slice().iter();
    bytes.filter(|&&byte| byte == b'\n').count() as u64
}
