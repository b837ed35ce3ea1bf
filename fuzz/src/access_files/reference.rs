//! Slow parsers of an operator's files: first all lines into lists of words, then each list by itself.

use super::super::ranges::{self, Range};

/// Names and keys. `None` if anything is wrong.
pub fn keys(text: &str) -> Option<Vec<(String, String)>> {
    let lines = lines(text);
    let mut keys: Vec<(String, String)> = Vec::new();
    for words in &lines {
        let [name, key] = &words[..] else { return None };
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let padding = key.chars().rev().take_while(|&c| c == '=').count();
        let mut token = key.chars().take(key.chars().count() - padding);
        let is_key = token.all(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c));
        let is_known = keys.iter().any(|(other, other_key)| other == name || other_key == key);
        if !is_name || name.len() > 64 || !is_key || key.len() < 16 || key.len() > 256 || is_known {
            return None;
        }
        keys.push((name.clone(), key.clone()));
    }
    Some(keys).filter(|keys| !keys.is_empty())
}

/// The allowed and the denied ranges. `None` if anything is wrong.
pub fn rules(text: &str) -> Option<(Vec<Range>, Vec<Range>)> {
    let lines = lines(text);
    let of = |wanted: &str| -> Vec<Option<Range>> {
        let those = lines.iter().filter(|words| words[0] == wanted);
        those.map(|words| if words.len() == 2 { ranges::read(&words[1]) } else { None }).collect()
    };
    let (allow, deny) = (of("allow"), of("deny"));
    let is_complete = allow.len() + deny.len() == lines.len() && !lines.is_empty();
    let all = |ranges: Vec<Option<Range>>| ranges.into_iter().collect::<Option<Vec<Range>>>();
    if is_complete { Some((all(allow)?, all(deny)?)) } else { None }
}

/// The words of all lines that have some.
fn lines(text: &str) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let mut words = vec![String::new()];
        for c in line.chars().take_while(|&c| c != '#') {
            if matches!(c, ' ' | '\t' | '\r' | '\x0C') {
                words.push(String::new());
            } else if let Some(word) = words.last_mut() {
                word.push(c);
            }
        }
        words.retain(|word| !word.is_empty());
        if !words.is_empty() {
            lines.push(words);
        }
    }
    lines
}
