//! Lines of a pipe, each bounded: the beginning of one that is too long is kept, and its end, where a report may stand.

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// What ends a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndOfLine {
    /// A line feed, or the end of the pipe.
    Feed,
    /// A carriage return: what comes next is drawn over it, or it is the first half of the line's end.
    Return,
}

/// A line without its end; bytes that are no UTF-8 are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Its beginning, where it is too long.
    pub(super) text: String,
    /// The last bytes of a line that is too long.
    pub(super) rest: Option<String>,
    pub(super) end: EndOfLine,
}

/// Lines that are read one by one.
pub(super) struct Lines<R> {
    pipe: BufReader<R>,
    most: usize,
    returns: bool,
    partial: Partial,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// At most so many bytes of a line's beginning and of its end are kept. `returns`: carriage returns end lines.
    pub(super) fn new(pipe: R, most: usize, returns: bool) -> Self {
        Self {
            pipe: BufReader::new(pipe),
            most,
            returns,
            partial: Partial::default(),
        }
    }

    /// The next line. `None`: the pipe is closed. May be dropped and called again: nothing is lost.
    pub(super) async fn next(&mut self) -> Option<Line> {
        loop {
            let chunk = match self.pipe.fill_buf().await {
                Ok([]) | Err(_) if self.partial.is_empty() => return None,
                Ok([]) | Err(_) => return Some(self.partial.take(self.most, EndOfLine::Feed)),
                Ok(chunk) => chunk,
            };
            let returns = self.returns;
            let ends = |byte: &u8| *byte == b'\n' || (returns && *byte == b'\r');
            let at = chunk.iter().position(ends);
            self.partial
                .push(&chunk[..at.unwrap_or(chunk.len())], self.most);
            let end = at.map(|at| match chunk[at] {
                b'\r' => EndOfLine::Return,
                _ => EndOfLine::Feed,
            });
            let consumed = at.map_or(chunk.len(), |at| at + 1);
            self.pipe.consume(consumed);
            if let Some(end) = end {
                return Some(self.partial.take(self.most, end));
            }
        }
    }
}

/// A line of which more is to come.
#[derive(Debug, Default)]
struct Partial {
    head: Vec<u8>,
    /// What came after the head was full; its last bytes.
    tail: Vec<u8>,
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    fn push(&mut self, bytes: &[u8], most: usize) {
        let room = most.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.tail.extend_from_slice(&bytes[room..]);
        // Moved once for as many bytes as are kept.
        if self.tail.len() > 2 * most {
            self.tail.drain(..self.tail.len() - most);
        }
    }

    fn take(&mut self, most: usize, end: EndOfLine) -> Line {
        let Self { head, mut tail } = std::mem::take(self);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let rest = (!tail.is_empty()).then(|| {
            if tail.len() > most {
                tail.drain(..tail.len() - most);
            }
            // What was meant as one object may lie on both sides of the cut.
            let before = head.len() - (most - tail.len()).min(head.len());
            text(&[&head[before..], &tail].concat())
        });
        Line {
            text: text(&head),
            rest,
            end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(pipe: &[u8], most: usize, returns: bool) -> Vec<Line> {
        let mut lines = Lines::new(pipe, most, returns);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            all.push(line);
        }
        all
    }

    #[tokio::test]
    async fn lines_end_at_feeds_and_where_asked_at_returns() {
        use EndOfLine::{Feed, Return};
        let given = b"a\r50%\rb\r\n\nend";
        let told: Vec<(String, EndOfLine)> = read(given, 99, true)
            .await
            .into_iter()
            .map(|line| (line.text, line.end))
            .collect();
        let expected = [
            ("a", Return),
            ("50%", Return),
            ("b", Return),
            ("", Feed),
            ("", Feed),
            ("end", Feed),
        ];
        assert_eq!(told, expected.map(|(text, end)| (text.to_owned(), end)));
        let told = read(given, 99, false).await;
        assert_eq!(told[0].text, "a\r50%\rb\r");
        assert_eq!(read(b"\xff\n", 9, true).await[0].text, "\u{fffd}");
    }

    #[tokio::test]
    async fn of_a_line_that_is_too_long_beginning_and_end_are_kept() {
        for (length, rest) in [
            (10, None),
            (11, Some("bcdefghijk")),
            (24, Some("opqrstuvwx")),
        ] {
            let letters: Vec<u8> = (b'a'..).take(length).collect();
            let line = [&letters[..], b"\n"].concat();
            let read = read(&line, 10, true).await;
            assert_eq!(read.len(), 1);
            assert_eq!(read[0].text, "abcdefghij");
            assert_eq!(read[0].rest.as_deref(), rest, "{length}");
        }
        let long = vec![b'x'; 1 << 20];
        let read = read(&long, 1024, true).await;
        assert_eq!(read[0].rest.as_ref().map(String::len), Some(1024));
    }
}
