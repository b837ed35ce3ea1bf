//! The grammar of RFC 8259, parsed byte by byte.

use std::ops::Range;

/// The position of a member of the outermost object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub key: Range<usize>,
    pub value: Range<usize>,
}

/// Checks that `text` is one JSON value, and finds its members if it is an object. The error is the offset of the first
/// byte that is not allowed there, or the length if the text ends too early.
pub fn read(text: &[u8]) -> Result<Vec<Member>, usize> {
    let mut reader = Reader { text, at: 0, members: Vec::new() };
    reader.value()?;
    reader.white_space();
    if reader.at == text.len() { Ok(reader.members) } else { Err(reader.at) }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    members: Vec<Member>,
}

/// The kind of the value that is open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Array,
    Object,
}

impl Reader<'_> {
    /// A value of any depth, with the white space before it.
    fn value(&mut self) -> Result<(), usize> {
        let mut inside: Vec<Inside> = Vec::new();
        loop {
            self.white_space();
            self.begin_value(inside.len());
            match self.peek() {
                Some(b'[') => {
                    self.at += 1;
                    self.white_space();
                    if !self.takes(b']') {
                        inside.push(Inside::Array);
                        continue;
                    }
                }
                Some(b'{') => {
                    self.at += 1;
                    self.white_space();
                    if !self.takes(b'}') {
                        inside.push(Inside::Object);
                        self.key(inside.len())?;
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            self.end_value(inside.len());
            // A value has ended, and perhaps the values around it.
            loop {
                let Some(&innermost) = inside.last() else { return Ok(()) };
                self.white_space();
                let end = if innermost == Inside::Array { b']' } else { b'}' };
                if self.takes(end) {
                    inside.pop();
                    self.end_value(inside.len());
                    continue;
                }
                self.expect(b',')?;
                if innermost == Inside::Object {
                    self.white_space();
                    self.key(inside.len())?;
                }
                break;
            }
        }
    }

    fn key(&mut self, depth: usize) -> Result<(), usize> {
        let start = self.at;
        self.string()?;
        if depth == 1 {
            self.members.push(Member { key: start..self.at, value: 0..0 });
        }
        self.white_space();
        self.expect(b':')
    }

    /// Notes the value of a member of the outermost object. Elements of an array are not members.
    fn begin_value(&mut self, depth: usize) {
        if let (1, Some(member)) = (depth, self.members.last_mut()) {
            member.value = self.at..self.at;
        }
    }

    fn end_value(&mut self, depth: usize) {
        if let (1, Some(member)) = (depth, self.members.last_mut()) {
            member.value.end = self.at;
        }
    }

    fn scalar(&mut self) -> Result<(), usize> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.at),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), usize> {
        word.iter().try_for_each(|&byte| self.expect(byte))
    }

    fn number(&mut self) -> Result<(), usize> {
        self.takes(b'-');
        if !self.takes(b'0') {
            self.digits()?;
        }
        if self.takes(b'.') {
            self.digits()?;
        }
        if self.takes(b'e') || self.takes(b'E') {
            let _sign = self.takes(b'+') || self.takes(b'-');
            self.digits()?;
        }
        Ok(())
    }

    /// One or more.
    fn digits(&mut self) -> Result<(), usize> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(start) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<(), usize> {
        self.expect(b'"')?;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                Some(b' '..) => self.at += 1,
                Some(_) | None => return Err(self.at),
            }
        }
    }

    fn escape(&mut self) -> Result<(), usize> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.at);
                    }
                    self.at += 1;
                }
                Ok(())
            }
            _ => Err(self.at),
        }
    }

    fn white_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), usize> {
        if self.takes(byte) { Ok(()) } else { Err(self.at) }
    }
}
