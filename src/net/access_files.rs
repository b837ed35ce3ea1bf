//! The files that say who may come in: API keys and address rules.

use std::path::{Path, PathBuf};

use super::files::{self, FileError};
use crate::config::Config;
use crate::relay::AddressRules;
use crate::relay::ApiKeys;

/// Where they are.
#[derive(Debug)]
pub(super) struct AccessFiles {
    api_keys: Option<PathBuf>,
    address_rules: Option<PathBuf>,
}

impl AccessFiles {
    pub(super) fn new(config: &Config) -> Self {
        Self { api_keys: config.api_keys.clone(), address_rules: config.address_rules.clone() }
    }

    /// The keys as the file has them now; `None` without a file.
    pub(super) fn read_api_keys(&self) -> Option<Result<ApiKeys, FileError>> {
        self.api_keys.as_deref().map(|path| read("--api-keys", path, ApiKeys::parse))
    }

    /// The rules as the file has them now; `None` without a file.
    pub(super) fn read_address_rules(&self) -> Option<Result<AddressRules, FileError>> {
        self.address_rules.as_deref().map(|path| read("--address-rules", path, AddressRules::parse))
    }
}

fn read<T, E: Into<String>>(
    flag: &'static str,
    path: &Path,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, FileError> {
    let text = String::from_utf8(files::read(flag, path)?)
        .map_err(|_| FileError::new(flag, path, "not UTF-8; write plain text"))?;
    parse(&text).map_err(|problem| FileError::new(flag, path, problem))
}
