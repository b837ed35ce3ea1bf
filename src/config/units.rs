//! Parses durations, sizes, counts, switches, paths and ports.
//!
//! Numbers too large for their type saturate. The bounds of the settings are far lower, so they refuse such numbers.

use std::path::PathBuf;

use super::error::Problem;
use super::format::BINARY_UNITS;

const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 24 * 60 * 60 * 1000), ("h", 60 * 60 * 1000), ("m", 60 * 1000), ("s", 1000), ("ms", 1)];

/// Case-sensitive, unlike [`BINARY_UNITS`].
const DECIMAL_UNITS: [(&str, u64); 4] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1000), ("B", 1)];

/// Parses `500ms`, `90s` or `1m30s` to milliseconds. A `0` needs no unit.
pub(super) fn parse_millis(text: &str) -> Result<u64, Problem> {
    let mut millis = 0_u64;
    let mut previous = u64::MAX;
    let mut rest = text;
    loop {
        let (digits, after) = split_digits(rest);
        if digits.is_empty() {
            return Err("not a duration; write a number and a unit, such as 30s".into());
        }
        let (unit, after) = split_letters(after);
        // The whole text is zeros. Its unit would make no difference.
        if saturating(text) == Some(0) {
            return Ok(0);
        }
        if unit.is_empty() {
            return Err(duration_without_unit(text, after));
        }
        let Some((_, size)) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit) else {
            return Err("unknown unit; use ms, s, m, h or d, as in 30s".into());
        };
        // `30s1m` or `1s1s` is probably a mistake.
        if size >= previous {
            return Err("each unit once and the largest first, as in 1m30s".into());
        }
        previous = size;
        millis = millis.saturating_add(saturating(digits).unwrap_or(0).saturating_mul(size));
        if after.is_empty() {
            return Ok(millis);
        }
        rest = after;
    }
}

/// The problem with a `text` in which a number has no unit. `after` follows the number.
fn duration_without_unit(text: &str, after: &str) -> Problem {
    /// Digits of a number that the remedy repeats. Longer ones are not plausible.
    const DIGITS_MAX: usize = 9;
    if after.starts_with('.') {
        "fractions are not understood; use a smaller unit, as in 1m30s".into()
    } else if !after.is_empty() {
        "not a duration; write a number and a unit, such as 30s".into()
    } else if text.len() <= DIGITS_MAX && saturating(text).is_some() {
        format!("a duration needs a unit; write {text}s").into()
    } else {
        "a duration needs a unit after every number, as in 1m30s".into()
    }
}

/// Parses `65536`, `500B`, `64KiB` or `64KB` to bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, Problem> {
    let (digits, after) = split_digits(text);
    let (unit, after) = split_letters(after);
    if after.starts_with('.') && unit.is_empty() && !digits.is_empty() {
        return Err("fractions are not understood; use a smaller unit, as in 1536KiB".into());
    }
    let Some(number) = saturating(digits).filter(|_| after.is_empty()) else {
        return Err("not a size; write a number and a unit, such as 64MiB".into());
    };
    let is_unit = |(name, _): &(&str, u64)| *name == unit;
    let is_unit_in_any_case = |(name, _): &(&str, u64)| name.eq_ignore_ascii_case(unit);
    let size = if unit.is_empty() {
        1
    } else if let Some((_, size)) = BINARY_UNITS.into_iter().find(is_unit_in_any_case) {
        size
    } else if let Some((_, size)) = DECIMAL_UNITS.into_iter().find(is_unit) {
        size
    } else {
        // `64K` may mean 64,000 or 65,536 bytes, so it is refused with a remedy.
        let is_abbreviation =
            |(name, _): &&(&str, u64)| name.trim_end_matches("iB").eq_ignore_ascii_case(unit);
        return Err(match BINARY_UNITS.iter().find(is_abbreviation) {
            Some((name, _)) => format!("ambiguous unit; write {number}{name}").into(),
            None => "unknown unit; use B, KiB, MiB, GiB, KB, MB or GB, as in 64MiB".into(),
        });
    };
    Ok(number.saturating_mul(size))
}

/// Parses a number that has only digits.
pub(super) fn parse_count(text: &str) -> Result<u64, Problem> {
    saturating(text).ok_or("not a number; write digits only, such as 1000".into())
}

/// Parses `true`, `false`, `1` or `0`.
pub(super) fn parse_switch(text: &str) -> Result<bool, Problem> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => match meant_switch(text) {
            Some(is_on) => Err(format!("a switch takes true, false, 1 or 0; write {is_on}").into()),
            None => Err("a switch takes true, false, 1 or 0".into()),
        },
    }
}

/// What a word means as a switch in other programs. Used only in remedies.
pub(super) fn meant_switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "on" | "t" | "enable" | "enabled" => Some(true),
        "false" | "0" | "no" | "n" | "off" | "f" | "disable" | "disabled" => Some(false),
        _ => None,
    }
}

/// Parses the path of a file.
pub(super) fn parse_path(text: &str) -> Result<PathBuf, Problem> {
    /// Linux's `PATH_MAX`; other systems have lower limits.
    const BYTES_MAX: usize = 4096;
    if text.is_empty() || text.len() > BYTES_MAX || text.contains('\0') {
        return Err("not a path; write that of a file".into());
    }
    Ok(text.into())
}

/// Parses a port. 0 means any free port.
pub(super) fn parse_port(text: &str) -> Result<u16, Problem> {
    saturating(text)
        .and_then(|number| u16::try_from(number).ok())
        .ok_or("not a port; write a number from 0 to 65535, such as 8787".into())
}

/// The number in `digits`, at most [`u64::MAX`]. `None` if the text is empty or has another character.
fn saturating(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len()))
}

fn split_letters(text: &str) -> (&str, &str) {
    text.split_at(text.find(|char: char| !char.is_alphabetic()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::super::format::format_size;
    use super::*;

    const NOT_A_DURATION: &str = "not a duration; write a number and a unit, such as 30s";
    const UNKNOWN_DURATION_UNIT: &str = "unknown unit; use ms, s, m, h or d, as in 30s";
    const UNIT_ORDER: &str = "each unit once and the largest first, as in 1m30s";
    const FRACTION: &str = "fractions are not understood; use a smaller unit, as in 1m30s";
    const UNIT_MISSING: &str = "a duration needs a unit after every number, as in 1m30s";

    #[test]
    fn durations() {
        let table: [(&str, Result<u64, &str>); 47] = [
            ("1ms", Ok(1)),
            ("500ms", Ok(500)),
            ("90s", Ok(90_000)),
            ("30m", Ok(1_800_000)),
            ("2h", Ok(7_200_000)),
            ("1d", Ok(86_400_000)),
            ("1m30s", Ok(90_000)),
            ("1d2h3m4s5ms", Ok(93_784_005)),
            ("1h1ms", Ok(3_600_001)),
            ("90m90s", Ok(5_490_000)),
            ("007s", Ok(7000)),
            ("0", Ok(0)),
            ("000", Ok(0)),
            ("0s", Ok(0)),
            ("0m0s", Ok(0)),
            ("18446744073709551615ms", Ok(u64::MAX)),
            ("18446744073709551616ms", Ok(u64::MAX)),
            ("99999999999999999999999d", Ok(u64::MAX)),
            ("300000000000d", Ok(u64::MAX)),
            ("213503982334d25975851615ms", Ok(u64::MAX)),
            ("213503982334d99999999999ms", Ok(u64::MAX)),
            ("", Err(NOT_A_DURATION)),
            ("s", Err(NOT_A_DURATION)),
            ("-5s", Err(NOT_A_DURATION)),
            ("+5s", Err(NOT_A_DURATION)),
            (" 5s", Err(NOT_A_DURATION)),
            ("5s ", Err(NOT_A_DURATION)),
            ("5 s", Err(NOT_A_DURATION)),
            ("5s,", Err(NOT_A_DURATION)),
            ("٣s", Err(NOT_A_DURATION)),
            ("30", Err("a duration needs a unit; write 30s")),
            ("123456789", Err("a duration needs a unit; write 123456789s")),
            ("1234567890", Err(UNIT_MISSING)),
            ("1m30", Err(UNIT_MISSING)),
            ("1m0", Err(UNIT_MISSING)),
            ("1.5h", Err(FRACTION)),
            ("1h0.5m", Err(FRACTION)),
            ("1.", Err(FRACTION)),
            ("5S", Err(UNKNOWN_DURATION_UNIT)),
            ("5sec", Err(UNKNOWN_DURATION_UNIT)),
            ("5M", Err(UNKNOWN_DURATION_UNIT)),
            ("5min", Err(UNKNOWN_DURATION_UNIT)),
            ("5us", Err(UNKNOWN_DURATION_UNIT)),
            ("5µs", Err(UNKNOWN_DURATION_UNIT)),
            ("1e3s", Err(UNKNOWN_DURATION_UNIT)),
            ("1s1s", Err(UNIT_ORDER)),
            ("30s1m", Err(UNIT_ORDER)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_millis(text), expected.map_err(Problem::from), "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        const NOT_A_SIZE: &str = "not a size; write a number and a unit, such as 64MiB";
        const UNKNOWN_UNIT: &str = "unknown unit; use B, KiB, MiB, GiB, KB, MB or GB, as in 64MiB";
        const FRACTION: &str = "fractions are not understood; use a smaller unit, as in 1536KiB";
        let table: [(&str, Result<u64, &str>); 37] = [
            ("0", Ok(0)),
            ("65536", Ok(65_536)),
            ("500B", Ok(500)),
            ("64KiB", Ok(65_536)),
            ("64MiB", Ok(67_108_864)),
            ("1GiB", Ok(1_073_741_824)),
            ("64kib", Ok(65_536)),
            ("64mib", Ok(67_108_864)),
            ("1GIB", Ok(1_073_741_824)),
            ("64KB", Ok(64_000)),
            ("64MB", Ok(64_000_000)),
            ("1GB", Ok(1_000_000_000)),
            ("18446744073709551616", Ok(u64::MAX)),
            ("17179869184GiB", Ok(u64::MAX)),
            ("64K", Err("ambiguous unit; write 64KiB")),
            ("64k", Err("ambiguous unit; write 64KiB")),
            ("64M", Err("ambiguous unit; write 64MiB")),
            ("1g", Err("ambiguous unit; write 1GiB")),
            ("64kB", Err(UNKNOWN_UNIT)),
            ("64kb", Err(UNKNOWN_UNIT)),
            ("500b", Err(UNKNOWN_UNIT)),
            ("12QB", Err(UNKNOWN_UNIT)),
            ("1TiB", Err(UNKNOWN_UNIT)),
            ("1i", Err(UNKNOWN_UNIT)),
            ("1.5MiB", Err(FRACTION)),
            ("1.5", Err(FRACTION)),
            (".5MiB", Err(NOT_A_SIZE)),
            ("1MiB.", Err(NOT_A_SIZE)),
            ("", Err(NOT_A_SIZE)),
            ("MiB", Err(NOT_A_SIZE)),
            ("-1", Err(NOT_A_SIZE)),
            ("+1", Err(NOT_A_SIZE)),
            ("1 MiB", Err(NOT_A_SIZE)),
            ("1MiB ", Err(NOT_A_SIZE)),
            ("1MiB512KiB", Err(NOT_A_SIZE)),
            ("0x10", Err(NOT_A_SIZE)),
            ("1_000", Err(NOT_A_SIZE)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_size(text), expected.map_err(Problem::from), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_written_in_the_largest_binary_unit_that_divides_them_and_read_back() {
        let table = [
            (0, "0B"),
            (1, "1B"),
            (500, "500B"),
            (1000, "1000B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1025, "1025B"),
            (64 << 10, "64KiB"),
            (1536 << 10, "1536KiB"),
            (64 << 20, "64MiB"),
            (1 << 30, "1GiB"),
            (1 << 40, "1024GiB"),
            (u64::MAX, "18446744073709551615B"),
        ];
        for (bytes, text) in table {
            assert_eq!(format_size(bytes), text);
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn counts_switches_and_ports_are_exact() {
        const NOT_A_NUMBER: &str = "not a number; write digits only, such as 1000";
        for (text, count) in [("0", 0), ("1000", 1000), ("010", 10), ("99999999999999999999", u64::MAX)] {
            assert_eq!(parse_count(text), Ok(count), "{text:?}");
        }
        for text in ["", "10k", "1_000", "1,000", "-1", "+1", " 1", "1 ", "1.0", "0x1", "٣"] {
            assert_eq!(parse_count(text), Err(NOT_A_NUMBER.into()), "{text:?}");
        }
        for (text, switch) in [("true", true), ("1", true), ("false", false), ("0", false)] {
            assert_eq!(parse_switch(text), Ok(switch), "{text:?}");
        }
        for text in ["", "maybe", "01", " 1", "2"] {
            assert_eq!(parse_switch(text), Err("a switch takes true, false, 1 or 0".into()), "{text:?}");
        }
        for (text, meant) in [("yes", true), ("no", false), ("on", true), ("True", true), ("FALSE", false)] {
            let problem = format!("a switch takes true, false, 1 or 0; write {meant}");
            assert_eq!(parse_switch(text), Err(problem.into()), "{text:?}");
        }
        for (text, port) in [("0", 0), ("80", 80), ("65535", 65535)] {
            assert_eq!(parse_port(text), Ok(port), "{text:?}");
        }
        for text in ["", "65536", "+80", "-1", "80 ", "http", "tcp://10.0.0.1:80"] {
            let problem = "not a port; write a number from 0 to 65535, such as 8787";
            assert_eq!(parse_port(text), Err(problem.into()), "{text:?}");
        }
    }
}
