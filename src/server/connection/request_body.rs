//! Reader that finds the end of a request body (RFC 9112 sections 6 and 7).
//!
//! It is at least as strict as the HTTP library: if the two disagreed about the end of a body, they would read
//! different requests from the same bytes.

use crate::connection::state::BodyFault;

/// Reader of one body.
#[derive(Debug)]
pub(super) enum BodyReader {
    /// Number of bytes that are still to come.
    Length(u64),
    Chunked(Chunks),
}

/// Reader of a chunked body.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    /// Size of the current chunk, as far as its digits are read; then the number of its data bytes still to come.
    size: u64,
    digits: u32,
    /// Number of bytes of data, chunk extensions, trailers and size padding that may still come.
    budget: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    SizeBlank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the empty line at the end.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

/// Number of hexadecimal digits of a 64-bit size. Further ones are padding.
const MAX_DIGITS: u32 = 16;

impl BodyReader {
    /// Creates a reader of a chunked body with at most `limit` bytes of data, chunk extensions, trailers and size
    /// padding.
    pub(super) fn chunked(limit: u64) -> Self {
        Self::Chunked(Chunks {
            state: State::Size,
            size: 0,
            digits: 0,
            budget: limit,
        })
    }

    pub(super) fn is_complete(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.state == State::End,
        }
    }

    /// Continues to read. Returns the number of these bytes that belong to the body: all, unless the body ends earlier.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<usize, BodyFault> {
        match self {
            Self::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX);
                let count = count.min(bytes.len());
                *left -= count as u64;
                Ok(count)
            }
            Self::Chunked(chunks) => chunks.read(bytes),
        }
    }
}

impl Chunks {
    fn read(&mut self, bytes: &[u8]) -> Result<usize, BodyFault> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::End {
            at += match self.state {
                State::Data => self.read_data(&bytes[at..])?,
                _ => {
                    self.read_framing(bytes[at])?;
                    1
                }
            };
        }
        Ok(at)
    }

    fn read_data(&mut self, bytes: &[u8]) -> Result<usize, BodyFault> {
        let count = usize::try_from(self.size).unwrap_or(usize::MAX);
        let count = count.min(bytes.len());
        self.spend(count as u64)?;
        self.size -= count as u64;
        if self.size == 0 {
            self.state = State::DataCr;
        }
        Ok(count)
    }

    fn read_framing(&mut self, byte: u8) -> Result<(), BodyFault> {
        self.state = match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.read_digit(byte)?,
            (State::Size | State::SizeBlank | State::Extension, b'\r') if self.digits > 0 => {
                State::SizeLf
            }
            (State::Size | State::SizeBlank, b' ' | b'\t') if self.digits > 0 => {
                self.spend(1)?;
                State::SizeBlank
            }
            (State::Size | State::SizeBlank, b';') if self.digits > 0 => {
                self.spend(1)?;
                State::Extension
            }
            (State::Extension, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.spend(1)?;
                State::Extension
            }
            (State::SizeLf, b'\n') if self.size > 0 => State::Data,
            (State::SizeLf, b'\n') => State::TrailerStart,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                (self.size, self.digits) = (0, 0);
                State::Size
            }
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerStart | State::Trailer, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.spend(1)?;
                State::Trailer
            }
            (State::TrailerLf, b'\n') => {
                self.spend(2)?;
                State::TrailerStart
            }
            (State::EndLf, b'\n') => State::End,
            _ => return Err(BodyFault::Malformed),
        };
        Ok(())
    }

    fn read_digit(&mut self, digit: u8) -> Result<State, BodyFault> {
        let value = char::from(digit).to_digit(16).unwrap_or_default();
        let size = self.size.checked_mul(16).ok_or(BodyFault::Malformed)?;
        self.size = size + u64::from(value);
        self.digits += 1;
        if self.digits > MAX_DIGITS {
            self.spend(1)?;
        }
        Ok(State::Size)
    }

    fn spend(&mut self, count: u64) -> Result<(), BodyFault> {
        self.budget = self.budget.checked_sub(count).ok_or(BodyFault::TooLarge)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &str = "2;a=\"b\"\r\nab\r\n01 \t;x\r\nc\r\n0\r\nx: y\r\nz: \r\n\r\n";

    fn read(body: &[u8], piece: usize, limit: u64) -> Result<(usize, bool), BodyFault> {
        let mut reader = BodyReader::chunked(limit);
        let mut count = 0;
        for part in body.chunks(piece) {
            let body_count = reader.read(part)?;
            count += body_count;
            if body_count < part.len() {
                break;
            }
        }
        Ok((count, reader.is_complete()))
    }

    #[test]
    fn chunked_body_ends_at_its_last_byte_in_any_split_of_its_bytes() {
        let all = format!("{CHUNKED}GET / HTTP/1.1");
        for piece in 1..all.len() {
            let ended = read(all.as_bytes(), piece, 1000);
            assert_eq!(ended, Ok((CHUNKED.len(), true)), "{piece}");
        }
        for end in 0..CHUNKED.len() {
            let part = &CHUNKED.as_bytes()[..end];
            assert_eq!(read(part, 7, 1000), Ok((end, false)), "{end}");
        }
    }

    #[test]
    fn limit_of_a_chunked_body_counts_all_bytes_except_chunk_frames() {
        // abc, ;a="b", " \t;x" and two trailers with their line ends.
        let counted = 3 + 6 + 4 + 6 + 5;
        assert!(read(CHUNKED.as_bytes(), 1000, counted).is_ok());
        let over = read(CHUNKED.as_bytes(), 1000, counted - 1);
        assert_eq!(over, Err(BodyFault::TooLarge));
        let padded = format!("{}1\r\n", "0".repeat(100));
        assert_eq!(read(padded.as_bytes(), 10, 84), Err(BodyFault::TooLarge));
        assert!(read(padded.as_bytes(), 10, 85).is_ok());
    }

    #[test]
    fn body_with_a_content_length_ends_after_that_many_bytes() {
        let mut body = BodyReader::Length(5);
        assert_eq!(body.read(b"abc"), Ok(3));
        assert!(!body.is_complete());
        assert_eq!(body.read(b"defgh"), Ok(2));
        assert!(body.is_complete());
    }
}
