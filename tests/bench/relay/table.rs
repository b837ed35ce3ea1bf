//! Prints the figures of a test, collected over its rounds, as a table.

/// One figure of a test.
pub(crate) struct Figure {
    name: &'static str,
    /// Digits after the decimal point.
    digits: usize,
    value: f64,
}

impl Figure {
    pub(crate) const fn new(name: &'static str, digits: usize, value: f64) -> Self {
        Self { name, digits, value }
    }

    /// A number of bytes, shown in MiB.
    pub(crate) const fn mib(name: &'static str, bytes: f64) -> Self {
        Self::new(name, 1, bytes / (1024.0 * 1024.0))
    }
}

/// Prints one row per figure. `relay` and `other` hold the rounds of each, all with the same figures.
pub(crate) fn print(name: &str, relay: &[Vec<Figure>], (title, other): (&str, &[Vec<Figure>])) {
    let Some(first) = relay.first() else { return };
    println!("\n{name}");
    let [relay_title, range_title, ratio_title] = ["relay", "min–max", "ratio"];
    println!(
        "  {:<40} {relay_title:>11} {range_title:>19} {title:>11} {range_title:>19} {ratio_title:>7}",
        ""
    );
    for (at, figure) in first.iter().enumerate() {
        let digits = figure.digits;
        let (relay, other) = (Column::new(relay, at), Column::new(other, at));
        let ratio = match (relay.median(), other.median()) {
            (Some(relay), Some(other)) if other != 0.0 => format!("{:.2}", relay / other),
            _ => "-".to_owned(),
        };
        let row = [relay.shown(digits), relay.range(digits), other.shown(digits), other.range(digits), ratio];
        let [relay, relay_range, other, other_range, ratio] = row;
        println!(
            "  {:<40} {relay:>11} {relay_range:>19} {other:>11} {other_range:>19} {ratio:>7}",
            figure.name
        );
    }
}

/// The values of one figure in all rounds, sorted.
struct Column(Vec<f64>);

impl Column {
    fn new(rounds: &[Vec<Figure>], at: usize) -> Self {
        let mut values: Vec<f64> =
            rounds.iter().filter_map(|figures| figures.get(at)).map(|figure| figure.value).collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The median. For an even number of rounds, the mean of the two middle values.
    fn median(&self) -> Option<f64> {
        let middle = self.0.len() / 2;
        let upper = *self.0.get(middle)?;
        let lower = if self.0.len().is_multiple_of(2) { *self.0.get(middle - 1)? } else { upper };
        Some(f64::midpoint(lower, upper))
    }

    fn shown(&self, digits: usize) -> String {
        self.median().map_or_else(|| "-".to_owned(), |median| format!("{median:.digits$}"))
    }

    fn range(&self, digits: usize) -> String {
        match self.0.as_slice() {
            [least, .., most] => format!("{least:.digits$}–{most:.digits$}"),
            [_] | [] => "-".to_owned(),
        }
    }
}
