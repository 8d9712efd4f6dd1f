//! URLs without what opens doors: passwords and tokens before the host, values of queries (signatures of S3 and
//! Google, tokens of Azure, keys), fragments.

use std::borrow::Cow;

/// What stands in place of a secret.
const HIDDEN: &str = "***";

/// A text in which every URL is without secrets. It need not be a URL that can be parsed: what is wrong with one is
/// said with it.
pub fn redacted(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let (before, url) = rest.split_at(scheme + 3);
        shown.push_str(before);
        let end = url.find(ends_url).unwrap_or(url.len());
        let (url, after) = url.split_at(end);
        push_url(url, &mut shown);
        rest = after;
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// A character that no URL holds unescaped, and that messages put around one.
fn ends_url(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '`' | '"' | '\'' | '<' | '>' | '\\')
}

/// Adds what stands behind `scheme://`.
fn push_url(url: &str, shown: &mut String) {
    let url = match credentials(url) {
        Some(end) => {
            shown.push_str(HIDDEN);
            &url[end..]
        }
        None => url,
    };
    let query = url.find(['?', '#']).unwrap_or(url.len());
    let (plain, mut secret) = url.split_at(query);
    shown.push_str(plain);
    while let Some(sign) = secret.chars().next() {
        let next = secret[1..]
            .find(['&', ';', '#'])
            .map_or(secret.len(), |next| next + 1);
        let field = &secret[..next];
        match field.split_once('=') {
            Some((name, _)) => {
                shown.push_str(name);
                shown.push('=');
            }
            // A word alone may be the secret.
            None => shown.push(sign),
        }
        if field.len() > 1 {
            shown.push_str(HIDDEN);
        }
        secret = &secret[next..];
    }
}

/// Where the `@` behind a user and password stands. A password with an unescaped `/`, `?` or `#` ends the host for a
/// parser; whoever reads the message sees it all the same.
fn credentials(url: &str) -> Option<usize> {
    let host = url.find(['/', '?', '#']).unwrap_or(url.len());
    let authority = &url[..host];
    if let Some(at) = authority.rfind('@') {
        return Some(at);
    }
    let (_, port) = authority.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let bracketed = authority.ends_with(']');
    (!is_port && !bracketed).then(|| url.rfind('@')).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_urls_are_hidden_and_the_rest_is_not() {
        let cases = [
            ("http://user:password@host/a.csv", "http://***@host/a.csv"),
            ("https://token@host", "https://***@host"),
            ("http://user:pa@ss@host:80/x", "http://***@host:80/x"),
            ("http://user:pa/s?s#w@host/x", "http://***@host/x"),
            (
                "https://b.s3.amazonaws.com/k?X-Amz-Signature=abc&X-Amz-Date=1",
                "https://b.s3.amazonaws.com/k?X-Amz-Signature=***&X-Amz-Date=***",
            ),
            (
                "https://a.blob/c/x?sv=1&sig=a%2Bb=#frag",
                "https://a.blob/c/x?sv=***&sig=***#***",
            ),
            ("http://host/x?secret", "http://host/x?***"),
            ("http://host/x?a=&b", "http://host/x?a=***&***"),
            ("http://host:8080/x", "http://host:8080/x"),
            ("http://[::1]:9000/x", "http://[::1]:9000/x"),
            ("http://[::1]/a@b", "http://[::1]/a@b"),
            ("s3://bucket/a@b.csv", "s3://bucket/a@b.csv"),
            ("file:///data/a?b", "file:///data/a?***"),
            ("s3://bucket/${name}/x", "s3://bucket/${name}/x"),
            ("http://", "http://"),
            ("?", "?"),
            ("no URL: a@b", "no URL: a@b"),
            (
                "`http://u:p@h/x`: cannot read \"http://u:p@h/y?k=v\" (http://h2/z)",
                "`http://***@h/x`: cannot read \"http://***@h/y?k=***\" (http://h2/z)",
            ),
        ];
        for (given, expected) in cases {
            assert_eq!(redacted(given), expected, "{given}");
            assert_eq!(redacted(expected), expected, "{expected} is not stable");
        }
    }
}
