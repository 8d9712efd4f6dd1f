//! The words of an expression.

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Number(f64),
    Text(String),
    Name(String),
    Sign(&'static str),
}

impl Token {
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Number(x) => x.to_string(),
            Self::Text(text) => format!("'{text}'"),
            Self::Name(name) => name.clone(),
            Self::Sign(sign) => (*sign).to_owned(),
        }
    }
}

/// Longer ones before those that they begin with.
const SIGNS: [&str; 22] = [
    "**", "==", "!=", "<=", ">=", "&&", "||", "<", ">", "=", "!", "+", "-", "*", "/", "%", "^",
    "(", ")", "[", "]", ",",
];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_ascii_digit() || first == '.' {
            let length = number_length(rest);
            let number: f64 = rest[..length]
                .parse()
                .map_err(|_| format!("`{}` is no number", &rest[..length]))?;
            found.push(Token::Number(number));
            length
        } else if first.is_ascii_alphabetic() || first == '_' {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
            let length = rest.find(|c| !fits(c)).unwrap_or(rest.len());
            found.push(Token::Name(rest[..length].to_owned()));
            length
        } else if matches!(first, '\'' | '"' | '`') {
            let end = rest[1..].find(first);
            let end = end.ok_or_else(|| format!("{first} is opened and not closed"))?;
            let inner = rest[1..=end].to_owned();
            found.push(if first == '`' {
                Token::Name(inner)
            } else {
                Token::Text(inner)
            });
            end + 2
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| format!("`{first}` is not expected there"))?;
            found.push(Token::Sign(sign));
            sign.len()
        };
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let exponent = |at: usize| at > 0 && matches!(bytes[at - 1], b'e' | b'E');
    (0..bytes.len())
        .find(|&at| match bytes[at] {
            b'0'..=b'9' | b'.' | b'e' | b'E' => false,
            b'+' | b'-' => !exponent(at),
            _ => true,
        })
        .unwrap_or(bytes.len())
}
