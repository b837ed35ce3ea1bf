//! Parses what the relay writes, as strictly as a client may.

/// One whole piece of what the relay wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// An HTTP answer with its body.
    Answer {
        status: u16,
        head: String,
        body: String,
    },
    Frame {
        is_final: bool,
        opcode: u8,
        payload: Vec<u8>,
    },
}

/// Bytes go in, whole pieces come out. What is left is the start of the next piece.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// The length of the head at the start of `bytes`, once it is complete.
    head_len: Option<usize>,
    /// The upgrade was answered with 101. Frames follow.
    is_open: bool,
}

impl Reader {
    /// Adds bytes up to the end of one piece at most, and returns how many were used.
    ///
    /// So a caller learns of each piece before the next one begins.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(usize, Option<Piece>), String> {
        let before = self.bytes.len();
        let mut used = 0;
        loop {
            let wanted = self.wanted()?;
            if self.bytes.len() == wanted {
                return Ok((self.bytes.len() - before, Some(self.take()?)));
            }
            let count = (wanted - self.bytes.len()).min(bytes.len() - used);
            if count == 0 {
                return Ok((used, None));
            }
            self.bytes.extend_from_slice(&bytes[used..used + count]);
            used += count;
        }
    }

    /// The number of bytes of the current piece so far.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The number of payload bytes of the current frame so far.
    pub fn payload_len(&self) -> usize {
        let header = self.bytes.get(1).map_or(self.bytes.len(), |&second| header_len(second));
        self.bytes.len().saturating_sub(header)
    }

    /// The least length of the current piece.
    fn wanted(&mut self) -> Result<usize, String> {
        if !self.is_open {
            return Ok(self.answer_len());
        }
        let [first, second, rest @ ..] = self.bytes.as_slice() else { return Ok(2) };
        if first & 0x70 != 0 || second & 0x80 != 0 {
            return Err(format!("a reserved bit or a mask in {first:02x} {second:02x}"));
        }
        if first & 0x08 != 0 && (first & 0x80 == 0 || *second > 125) {
            return Err(format!("a control frame in fragments or too long: {first:02x} {second:02x}"));
        }
        let (header, length) = match (second, rest) {
            (126, [high, low, ..]) => (4, u64::from(u16::from_be_bytes([*high, *low]))),
            (127, rest) if rest.len() >= 8 => {
                (10, rest[..8].iter().fold(0, |length, &byte| length << 8 | u64::from(byte)))
            }
            (126, _) => return Ok(4),
            (127, _) => return Ok(10),
            (length, _) => (2, u64::from(*length)),
        };
        let is_minimal = match header {
            4 => length > 125,
            10 => length > 0xFFFF,
            _ => true,
        };
        if !is_minimal {
            return Err(format!("a length of {length} in a header of {header} bytes"));
        }
        Ok(header + usize::try_from(length).map_err(|_| "a length beyond memory")?)
    }

    fn answer_len(&mut self) -> usize {
        if self.head_len.is_none() && self.bytes.ends_with(b"\r\n\r\n") {
            self.head_len = Some(self.bytes.len());
        }
        let Some(head) = self.head_len else { return self.bytes.len() + 1 };
        let text = String::from_utf8_lossy(&self.bytes[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        head + length.unwrap_or(0)
    }

    fn take(&mut self) -> Result<Piece, String> {
        let bytes = std::mem::take(&mut self.bytes);
        if self.is_open {
            let (first, second) = (bytes[0], bytes[1]);
            let payload = bytes[header_len(second)..].to_vec();
            return Ok(Piece::Frame { is_final: first & 0x80 != 0, opcode: first & 0x0F, payload });
        }
        let head = self.head_len.take().unwrap_or(bytes.len());
        let body = String::from_utf8(bytes[head..].to_vec()).map_err(|_| "a body that is not UTF-8")?;
        let head = String::from_utf8(bytes[..head].to_vec()).map_err(|_| "a head that is not UTF-8")?;
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| format!("no status line: {head:?}"))?;
        self.is_open = status == 101;
        Ok(Piece::Answer { status, head, body })
    }
}

/// The length of a frame's header, by its second byte.
const fn header_len(second: u8) -> usize {
    match second {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}
