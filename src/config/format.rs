//! The text form of sizes.

/// Largest first. Upper and lower case are both accepted.
pub(super) const BINARY_UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Writes a number of bytes in the largest binary unit that divides it: `64MiB`, `1536KiB`, `500B`.
#[must_use]
pub(super) fn format_size(bytes: u64) -> String {
    let divides = |(_, size): &(&str, u64)| bytes != 0 && bytes.is_multiple_of(*size);
    let (unit, size) = BINARY_UNITS.into_iter().find(divides).unwrap_or(("B", 1));
    format!("{}{unit}", bytes / size)
}
