//! Reads the files that settings name, at the start and at each reload.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::{error, fmt};

use super::platform;
use crate::config::{SettingName, write_path};

/// Longer than any certificate, key or list. A larger file was given by mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is wrong with a file: one line that names the setting, the file and the remedy.
#[derive(Debug)]
pub struct FileError {
    setting: SettingName,
    path: PathBuf,
    problem: String,
}

impl FileError {
    pub(super) fn new(setting: SettingName, path: &Path, problem: impl Into<String>) -> Self {
        Self { setting, path: path.to_owned(), problem: problem.into() }
    }
}

impl error::Error for FileError {}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.setting)?;
        write_path(f, &self.path)?;
        write!(f, ": {}", self.problem)
    }
}

/// Editors on Windows may begin a UTF-8 text with it.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// Byte-order marks of UTF-16, little-endian and big-endian.
const UTF_16_MARKS: [&[u8]; 2] = [b"\xFF\xFE", b"\xFE\xFF"];

/// Reads a whole text file that `setting` names, without its byte-order mark. Never waits: a pipe or device is refused
/// unread.
///
/// # Errors
/// The file cannot be read, is no regular file, is over 1 MiB, or is in UTF-16.
pub(super) fn read(setting: SettingName, path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |problem: String| FileError::new(setting, path, problem);
    let file = platform::open_at_once(path).map_err(|error| failed(remedy(&error)))?;
    // Checked on the open file, not on the path, which could change in between.
    let metadata = file.metadata().map_err(|error| failed(remedy(&error)))?;
    if !metadata.is_file() {
        return Err(failed("not a file; give the path of a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long.
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| failed(remedy(&error)))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(failed("over 1MiB; check that it is the right file".to_owned()));
    }
    if UTF_16_MARKS.iter().any(|mark| bytes.starts_with(mark)) {
        return Err(failed("a text in UTF-16; save it as UTF-8".to_owned()));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

fn remedy(error: &io::Error) -> String {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the system has many more errors than we have remedies"
    )]
    match error.kind() {
        io::ErrorKind::NotFound => "no such file; check the path".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied; let the relay's user read it".to_owned(),
        _ => format!("{error}; check the path"),
    }
}
