//! Where the body of a request ends (RFC 9112 sections 6 and 7).
//!
//! This is as strict as the HTTP library or stricter: two readers that differ about where a body ends would
//! take the same bytes for different requests.

use crate::connection::state::BodyFault;

/// Follows one body to its end.
#[derive(Debug)]
pub(super) enum BodyReader {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunks),
}

/// Follows a chunked body to its end.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    /// Of the chunk's size, digits; then what is still to come of its data.
    size: u64,
    digits: u32,
    /// How many bytes of data, chunk extensions, trailers and padded sizes may still come.
    left: u64,
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
    /// At the beginning of a trailer's line, or of the last, empty one.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

/// Digits of a 64-bit size. More are padding.
const DIGITS: u32 = 16;

impl BodyReader {
    /// Of a chunked body with at most so many bytes of data, chunk extensions and trailers.
    pub(super) fn chunked(limit: u64) -> Self {
        Self::Chunked(Chunks {
            state: State::Size,
            size: 0,
            digits: 0,
            left: limit,
        })
    }

    pub(super) fn is_complete(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.state == State::End,
        }
    }

    /// Reads on. Returns how many of these bytes are of the body: all, unless it ends before.
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
        if self.digits > DIGITS {
            self.spend(1)?;
        }
        Ok(State::Size)
    }

    fn spend(&mut self, count: u64) -> Result<(), BodyFault> {
        self.left = self.left.checked_sub(count).ok_or(BodyFault::TooLarge)?;
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
            let of_the_body = reader.read(part)?;
            count += of_the_body;
            if of_the_body < part.len() {
                break;
            }
        }
        Ok((count, reader.is_complete()))
    }

    #[test]
    fn chunked_body_ends_at_its_last_byte_however_it_is_cut() {
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
    fn data_extensions_trailers_and_padding_count_and_chunk_frames_do_not() {
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
    fn body_of_a_length_ends_there() {
        let mut body = BodyReader::Length(5);
        assert_eq!(body.read(b"abc"), Ok(3));
        assert!(!body.is_complete());
        assert_eq!(body.read(b"defgh"), Ok(2));
        assert!(body.is_complete());
    }
}
