//! Requests to the operator's listener, and the expected answers.

use serde_json::Value;

use super::super::choices::Choices;

pub const TOKEN: &str = "correct-horse-battery-staple";
/// `anybody:` and the token, in base64.
const BASIC: &str = "Basic YW55Ym9keTpjb3JyZWN0LWhvcnNlLWJhdHRlcnktc3RhcGxl";
/// A session whose ID must not appear on any page.
pub const SESSION: &str = "kept-to-ourselves";

const NUMBERS: [&str; 9] =
    ["0", "1", "17", "500", "501", "18446744073709551615", "18446744073709551616", "-1", ""];

/// A request with correct syntax.
#[derive(Clone, Debug)]
pub struct Request {
    method: &'static str,
    target: String,
    host: &'static str,
    authorization: String,
}

impl Request {
    pub fn choose(choices: &mut Choices<'_>) -> Self {
        let method = choices.pick(["GET", "GET", "GET", "HEAD", "POST", "get"]);
        let mut number = || choices.pick(NUMBERS);
        let (first, second) = (number(), number());
        let target = match choices.byte() % 9 {
            0 => "/".to_owned(),
            1 => "/metrics".to_owned(),
            2 => "/livez".to_owned(),
            3 => "/readyz".to_owned(),
            4 => "/sessions".to_owned(),
            5 => format!("/sessions?from={first}&limit={second}"),
            6 => "/history".to_owned(),
            7 => format!("/history?since={first}"),
            _ => "/nothing".to_owned(),
        };
        let host = choices.pick(["localhost", "127.0.0.1:9787", "[::1]", "evil.example"]);
        let authorization = choices.pick(["", TOKEN, BASIC, "Bearer", "Bearer hunter2hunter2hunter2"]);
        let authorization =
            if authorization == TOKEN { format!("Bearer {TOKEN}") } else { authorization.to_owned() };
        Self { method, target, host, authorization }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { method, target, host, authorization } = self;
        let field = if authorization.is_empty() {
            String::new()
        } else {
            format!("Authorization: {authorization}\r\n")
        };
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{field}\r\n").into_bytes()
    }

    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The statuses that the answer may have.
    pub fn statuses(&self, has_token: bool) -> &'static [&'static str] {
        if !matches!(self.method, "GET" | "HEAD") {
            return &["405"];
        }
        match self.path() {
            "/livez" => return &["200"],
            "/readyz" => return &["200", "503"],
            _ => {}
        }
        let brings_token = self.authorization == BASIC || self.authorization.ends_with(TOKEN);
        if has_token && !brings_token {
            return &["401"];
        }
        if !has_token && self.host == "evil.example" {
            return &["421"];
        }
        let numbers = self.target.split(['?', '&']).skip(1).filter_map(|pair| pair.split_once('='));
        for (name, value) in numbers {
            let is_right =
                value.parse::<u64>().is_ok_and(|number| name != "limit" || (1..=500).contains(&number));
            if !is_right {
                return &["400"];
            }
        }
        if self.path() == "/nothing" { &["404"] } else { &["200"] }
    }

    /// Whether the answer is a page.
    pub fn is_for_page(&self, has_token: bool) -> bool {
        self.statuses(has_token) == ["200"] && self.path() != "/livez"
    }

    /// Checks the body of a whole answer of 200.
    pub fn check_page(&self, body: &str) {
        match self.path() {
            "/livez" => assert_eq!(body, "ok\n"),
            "/readyz" => assert_eq!(body, "ready\n"),
            "/" => assert!(body.contains("</script>")),
            "/metrics" => {
                for line in body.lines().filter(|line| !line.starts_with("# ")) {
                    let (name, value) = line.rsplit_once(' ').expect("a sample");
                    assert!(!name.is_empty() && value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
                }
            }
            _ => assert!(serde_json::from_str::<Value>(body).is_ok_and(|page| page.is_object()), "{body}"),
        }
    }
}
