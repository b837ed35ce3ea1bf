//! The files that say who may connect: API keys and address rules.

use std::path::{Path, PathBuf};

use super::files::{self, FileError};
use crate::config::{Config, Naming, SettingName};
use crate::relay::{AddressRules, ApiKeys};

/// The paths of both files.
#[derive(Debug)]
pub(super) struct AccessFiles {
    api_keys: Option<PathBuf>,
    address_rules: Option<PathBuf>,
    naming: Naming,
}

impl AccessFiles {
    pub(super) fn new(config: &Config, naming: Naming) -> Self {
        Self { api_keys: config.api_keys.clone(), address_rules: config.address_rules.clone(), naming }
    }

    /// Reads the keys. `None` if the configuration names no file.
    pub(super) fn read_api_keys(&self) -> Option<Result<ApiKeys, FileError>> {
        self.api_keys.as_deref().map(|path| read(self.setting("api-keys"), path, ApiKeys::parse))
    }

    /// Reads the rules. `None` if the configuration names no file.
    pub(super) fn read_address_rules(&self) -> Option<Result<AddressRules, FileError>> {
        self.address_rules
            .as_deref()
            .map(|path| read(self.setting("address-rules"), path, AddressRules::parse))
    }

    const fn setting(&self, option: &'static str) -> SettingName {
        SettingName::new(option, self.naming)
    }
}

fn read<T, E: Into<String>>(
    setting: SettingName,
    path: &Path,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, FileError> {
    // `files::read` has removed a byte-order mark.
    let text = String::from_utf8(files::read(setting, path)?)
        .map_err(|_| FileError::new(setting, path, "not UTF-8; write plain text"))?;
    parse(&text).map_err(|problem| FileError::new(setting, path, problem))
}
