//! How settings are called in errors and log lines.

use std::fmt;

/// Who reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Whoever builds a configuration in code: a setting has the name of its field, `max_buffered`.
    Field,
    /// Whoever runs the program: a setting has the name of its option, `--max-buffered`.
    #[cfg(feature = "cli")]
    Option,
}

/// A setting, as an error names it: by its field, `max_buffered`. The errors of the program name its option instead,
/// `--max-buffered`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingName {
    /// The option without its dashes.
    option: &'static str,
    naming: Naming,
}

impl SettingName {
    /// The setting that `option` sets, written without its dashes.
    pub(crate) const fn new(option: &'static str, naming: Naming) -> Self {
        Self { option, naming }
    }
}

impl fmt::Display for SettingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.naming {
            #[cfg(feature = "cli")]
            Naming::Option => write!(f, "--{}", self.option),
            // Both files are fields of one that is called so.
            Naming::Field => match self.option.strip_prefix("tls-") {
                Some(file) => write!(f, "tls.{file}"),
                None => f.write_str(&self.option.replace('-', "_")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_called_as_its_reader_writes_it() {
        for (option, field) in
            [("listen", "listen"), ("max-buffered", "max_buffered"), ("tls-cert", "tls.cert")]
        {
            assert_eq!(SettingName::new(option, Naming::Field).to_string(), field);
            #[cfg(feature = "cli")]
            assert_eq!(SettingName::new(option, Naming::Option).to_string(), format!("--{option}"));
        }
    }
}
