//! The status page: charts of the last 15 minutes.

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

use crate::relay::http::write_page;

const HTML: &str = include_str!("status.html");

/// The page's header fields. Their policy lets the browser run and load only what the page itself contains.
#[derive(Debug)]
pub(super) struct StatusPage {
    headers: String,
}

impl StatusPage {
    pub(super) fn new() -> Self {
        // Hashes instead of nonces: the page is the same for every request.
        let [style, script] = ["style", "script"].map(|element| hash_of(HTML, element));
        let policy = format!(
            "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let headers = format!(
            "Content-Type: text/html; charset=utf-8\r\nContent-Security-Policy: {policy}\r\n\
             Referrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
        );
        Self { headers }
    }

    pub(super) fn write(&self, head_only: bool, out: &mut Vec<u8>) {
        write_page(&self.headers, HTML, head_only, out);
    }
}

/// The source expression for the element of that name (Content Security Policy Level 3, section 2.3.1).
fn hash_of(html: &str, element: &str) -> String {
    let begin = format!("<{element}>");
    let content = html.split_once(&begin).and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
    let content = content.map_or("", |(content, _)| content);
    format!("'sha256-{}'", BASE64.encode(&Sha256::digest(content.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_allows_the_one_script_and_the_one_style_of_the_page() {
        for element in ["style", "script"] {
            assert_eq!(HTML.matches(&format!("<{element}")).count(), 1);
            assert_eq!(HTML.matches(&format!("<{element}>")).count(), 1);
        }
        // echo -n 'a{}' | openssl dgst -sha256 -binary | base64
        let expected = "'sha256-X1RutGBrXCt9KkSaXMK7tHftWiRscFHOhxsS8tv8hBk='";
        assert_eq!(hash_of("<style>a{}</style>", "style"), expected);
    }

    #[test]
    fn page_refers_to_nothing_elsewhere() {
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            let elsewhere = HTML.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains(outside), "{outside}");
        }
    }
}
