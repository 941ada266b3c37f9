//! `%q`: text in double quotes, with Go's escapes.

use std::fmt::Write as _;

/// Bytes as Go's `strconv.Quote` writes them: what is no UTF-8 as `\x..`, what cannot be printed escaped.
pub fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push(&mut out, c);
        }
        for byte in chunk.invalid() {
            hex(&mut out, *byte);
        }
    }
    out.push('"');
    out
}

fn push(out: &mut String, c: char) {
    match c {
        '"' | '\\' => out.extend(['\\', c]),
        // Rust would escape it.
        '\'' => out.push(c),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if is_printable(c) => out.push(c),
        '\0'..='\x7f' => hex(out, c as u8),
        '\u{80}'..='\u{ffff}' => format_into(out, format_args!("\\u{:04x}", u32::from(c))),
        _ => format_into(out, format_args!("\\U{:08x}", u32::from(c))),
    }
}

fn hex(out: &mut String, byte: u8) {
    format_into(out, format_args!("\\x{byte:02x}"));
}

fn format_into(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes what is written");
}

/// Whether a character is shown as it is. Behind another one, as marks are.
fn is_printable(c: char) -> bool {
    let text = String::from_iter(['.', c]);
    text.escape_debug().nth(1) == Some(c)
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn text_is_quoted_as_go_quotes_it() {
        let cases: [(&[u8], &str); 7] = [
            (b"", r#""""#),
            (b"foo bar", r#""foo bar""#),
            (b"a\"b\\c'", r#""a\"b\\c'""#),
            (b"\x00\x07\n\x7f", r#""\x00\a\n\x7f""#),
            (b"\xff\xc3\xa9", r#""\xffé""#),
            (
                "e\u{301}\u{200b}\u{a0}".as_bytes(),
                "\"e\u{301}\\u200b\\u00a0\"",
            ),
            ("\u{10ffff}".as_bytes(), r#""\U0010ffff""#),
        ];
        for (bytes, wanted) in cases {
            assert_eq!(quoted(bytes), wanted);
        }
    }
}
