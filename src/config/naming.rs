//! The names of settings in errors and log lines.

use std::fmt;

/// How to name settings. It depends on the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By field, `max_buffered`, for programmers who build a configuration in code.
    Field,
    /// By option, `--max-buffered`, for operators who run the program.
    #[cfg(feature = "cli")]
    Option,
}

/// The name of a setting in an error: its field, `max_buffered`, or in errors of the program its option,
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
            // `Config::tls` is a struct that holds both paths.
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
    fn setting_has_the_name_of_its_field_or_of_its_option() {
        for (option, field) in
            [("listen", "listen"), ("max-buffered", "max_buffered"), ("tls-cert", "tls.cert")]
        {
            assert_eq!(SettingName::new(option, Naming::Field).to_string(), field);
            #[cfg(feature = "cli")]
            assert_eq!(SettingName::new(option, Naming::Option).to_string(), format!("--{option}"));
        }
    }
}
