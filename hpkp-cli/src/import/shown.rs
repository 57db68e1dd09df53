//! Makes texts of an input safe to display: bounded, printable, and without possible secrets.

use hpkp_core::text::Excerpt;

/// The shortest text that counts as a possible secret, in characters.
const SECRET: usize = 20;

/// A text to display. Texts that look like keys, hashes or tokens are omitted, and so are user names and
/// passwords in URLs.
pub(super) fn shown(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    let is_digit = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    let mut rest = &*without_user(text);
    while let Some(c) = rest.chars().next() {
        let end = match is_digit(c) {
            true => rest.find(|c| !is_digit(c)).unwrap_or(rest.len()),
            false => c.len_utf8(),
        };
        let (piece, behind) = rest.split_at(end);
        match is_secret(piece) {
            true => whole.push_str("(not shown)"),
            false => whole.push_str(piece),
        }
        rest = behind;
    }
    Excerpt::new(&whole).to_string()
}

/// Whether a text has digits, lower-case and upper-case letters, or only hexadecimal digits. Names have
/// neither.
fn is_secret(piece: &str) -> bool {
    let has = |of: fn(&u8) -> bool| piece.as_bytes().iter().any(of);
    let mixed =
        has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    let hex = piece.bytes().all(|byte| byte.is_ascii_hexdigit());
    piece.len() >= SECRET
        && (mixed || hex || piece.len() >= 2 * SECRET && !piece.contains(['-', '_', '/']))
}

/// A URL without the user name and password.
fn without_user(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#', '"', '\'']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn possible_secrets_are_left_out() {
        for (text, wanted) in [
            ("HOST", "HOST"),
            ("sha256", "sha256"),
            ("api.example.com", "api.example.com"),
            (
                "clinica-veterinaria-api-sgvl.onrender.example",
                "clinica-veterinaria-api-sgvl.onrender.example",
            ),
            ("https://ops:hunter2@a.example:x/v1", "https://a.example:x/v1"),
            ("x Zm9vYmFyYmF6cXV4Zm9v=", "x (not shown)"),
            ("0123456789abcdef0123456789abcdef", "(not shown)"),
            ("sha256/d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=", "(not shown)"),
            ("${PINS[@]}", "${PINS[@]}"),
        ] {
            assert_eq!(shown(text), wanted, "{text}");
        }
    }
}
