//! The live tail as a client reads it: server-sent events (WHATWG HTML, section 9.2) into receipts.
//!
//! Contract: the cursor moves only with what was handed out, so resuming behind it loses nothing and repeats nothing.

use super::ClientError;
use super::transport::Chunks;
use crate::http::wire::Event;
use futures_util::StreamExt;

/// Longest line of a stream, in bytes: a receipt with the largest detail, and room.
const LINE_BYTES_MAX: usize = 256 * 1024;

/// A live tail. Ends when the server stops or the connection breaks; go on behind [`Events::cursor`].
pub struct Events {
    to: String,
    chunks: Chunks,
    parser: Parser,
    cursor: Option<String>,
}

impl Events {
    pub(super) fn new(to: String, chunks: Chunks) -> Self {
        Self {
            to,
            chunks,
            parser: Parser::default(),
            cursor: None,
        }
    }

    /// The next receipt; `None` when the stream is over.
    pub async fn next(&mut self) -> Option<Result<Event, ClientError>> {
        loop {
            match self.parser.next() {
                Ok(Some(message)) => {
                    if let Some(id) = message.id {
                        self.cursor = Some(id);
                    }
                    if message.data.is_empty() {
                        continue;
                    }
                    let receipt =
                        serde_json::from_str(&message.data).map_err(|e| self.malformed(&e.to_string()));
                    let cursor = self.cursor.clone().unwrap_or_default();
                    return Some(receipt.map(|receipt| Event { cursor, receipt }));
                }
                Ok(None) => {}
                Err(TooLong) => return Some(Err(self.malformed("a line of the stream is too long"))),
            }
            match self.chunks.next().await? {
                Ok(chunk) => self.parser.push(&chunk),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Behind what was handed out so far: the `after` to resume with. Absent until the server named one.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    fn malformed(&self, why: &str) -> ClientError {
        ClientError::Malformed {
            to: self.to.clone(),
            why: why.to_owned(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct TooLong;

/// One message: an id, data, or both.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    id: Option<String>,
    data: String,
}

/// Lines into messages.
#[derive(Default)]
struct Parser {
    bytes: Vec<u8>,
    message: Message,
}

impl Parser {
    fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
    }

    /// The next whole message, when it is here.
    fn next(&mut self) -> Result<Option<Message>, TooLong> {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let message = std::mem::take(&mut self.message);
                if message != Message::default() {
                    return Ok(Some(message));
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => self.message.id = Some(value.to_owned()),
                "data" => {
                    if !self.message.data.is_empty() {
                        self.message.data.push('\n');
                    }
                    self.message.data.push_str(value);
                }
                // Comments and the event's name say nothing that is not known.
                _ => {}
            }
            if self.message.data.len() > LINE_BYTES_MAX {
                return Err(TooLong);
            }
        }
        if self.bytes.len() > LINE_BYTES_MAX {
            Err(TooLong)
        } else {
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn messages_are_whole_however_the_bytes_are_cut() {
        let stream =
            ": hello\nid: a\n\nevent: receipt\nid: b\ndata: {\"x\":1}\n\n: beat\n\nid: c\r\ndata: y\r\n\r\n";
        for size in 1..stream.len() {
            let mut parser = Parser::default();
            let mut found = Vec::new();
            for chunk in stream.as_bytes().chunks(size) {
                parser.push(chunk);
                while let Some(message) = parser.next().unwrap() {
                    found.push((message.id.unwrap(), message.data));
                }
            }
            let expected = [("a", ""), ("b", "{\"x\":1}"), ("c", "y")];
            assert_eq!(found, expected.map(|(id, data)| (id.to_owned(), data.to_owned())));
        }
    }

    #[test]
    fn a_line_without_end_is_an_error_and_not_memory() {
        let mut parser = Parser::default();
        parser.push(&vec![b'a'; LINE_BYTES_MAX + 1]);
        assert_eq!(parser.next(), Err(TooLong));
    }
}
