//! Words of a line of text, quoted as Go quotes them, or bare.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// A quote that is not closed, or a backslash before what it cannot stand before.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Every word of a line.
///
/// # Errors
/// See [`Unreadable`].
pub fn words(mut line: &str) -> Result<Vec<OsString>, Unreadable> {
    let mut words = Vec::new();
    while let Some((word, rest)) = word(line, char::is_whitespace)? {
        words.push(word);
        line = rest;
    }
    Ok(words)
}

/// The first operand of a comparison, as Go's `%q` takes it: [`word`], and `\`…\`` as it is.
///
/// # Errors
/// See [`Unreadable`].
pub fn quoted(line: &str, ends: fn(char) -> bool) -> Result<Option<(OsString, &str)>, Unreadable> {
    let Some(raw) = line.trim_start().strip_prefix('`') else {
        return word(line, ends);
    };
    let (word, rest) = raw.split_once('`').ok_or(Unreadable)?;
    Ok(Some((word.into(), rest)))
}

/// The first word of a line and what stands behind it; none where there are only blanks. A bare
/// word goes on until a character that ends it; `'…'` is taken as it is, `"…"` with Go's escapes.
///
/// # Errors
/// See [`Unreadable`].
fn word(line: &str, ends: fn(char) -> bool) -> Result<Option<(OsString, &str)>, Unreadable> {
    let line = line.trim_start();
    if let Some(quoted) = line.strip_prefix('\'') {
        let (word, rest) = quoted.split_once('\'').ok_or(Unreadable)?;
        return Ok(Some((word.into(), rest)));
    }
    if let Some(quoted) = line.strip_prefix('"') {
        return unquoted(quoted).map(Some);
    }
    let (word, rest) = line.split_at(line.find(ends).unwrap_or(line.len()));
    Ok((!word.is_empty()).then(|| (word.into(), rest)))
}

/// What stands up to the closing quote, and what behind it.
fn unquoted(text: &str) -> Result<(OsString, &str), Unreadable> {
    let mut word = Vec::new();
    let mut rest = text;
    loop {
        let first = rest.chars().next().ok_or(Unreadable)?;
        rest = &rest[first.len_utf8()..];
        match first {
            '"' => return Ok((OsString::from_vec(word), rest)),
            '\\' => rest = escaped(rest, &mut word)?,
            _ => word.extend_from_slice(first.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Adds what an escape stands for, and answers what is behind it
/// (<https://go.dev/ref/spec#Rune_literals>).
fn escaped<'a>(text: &'a str, word: &mut Vec<u8>) -> Result<&'a str, Unreadable> {
    let kind = text.chars().next().ok_or(Unreadable)?;
    let rest = &text[kind.len_utf8()..];
    let byte = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' | '"' => kind as u8,
        'x' => {
            let (value, rest) = number(rest, 2, 16)?;
            word.push(u8::try_from(value).map_err(|_| Unreadable)?);
            return Ok(rest);
        }
        '0'..='7' => {
            let (value, rest) = number(text, 3, 8)?;
            word.push(u8::try_from(value).map_err(|_| Unreadable)?);
            return Ok(rest);
        }
        'u' | 'U' => {
            let (value, rest) = number(rest, if kind == 'u' { 4 } else { 8 }, 16)?;
            let value = char::from_u32(value).ok_or(Unreadable)?;
            word.extend_from_slice(value.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(rest);
        }
        _ => return Err(Unreadable),
    };
    word.push(byte);
    Ok(rest)
}

/// A number of exactly so many digits, and what is behind it.
fn number(text: &str, digits: usize, radix: u32) -> Result<(u32, &str), Unreadable> {
    let (number, rest) = text.split_at_checked(digits).ok_or(Unreadable)?;
    let is_plain = number.chars().all(|digit| digit.is_digit(radix));
    let value = u32::from_str_radix(number, radix).ok();
    Ok((value.filter(|_| is_plain).ok_or(Unreadable)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_go_reads_them() {
        let read = |line: &str| {
            words(line).map(|words| {
                words
                    .into_iter()
                    .map(OsString::into_vec)
                    .collect::<Vec<_>>()
            })
        };
        let wanted = |words: &[&[u8]]| Ok(words.iter().map(|word| word.to_vec()).collect());
        assert_eq!(read("  put k  v "), wanted(&[b"put", b"k", b"v"]));
        assert_eq!(
            read(r#"put "a \"b\" c" 'd "e"'"#),
            wanted(&[b"put", br#"a "b" c"#, br#"d "e""#])
        );
        assert_eq!(
            read(r#""\x00\377\u00e9\n""#),
            wanted(&[b"\x00\xff\xc3\xa9\n"])
        );
        assert_eq!(read(""), wanted(&[]));
        assert_eq!(read("\"\""), wanted(&[b""]));
        for bad in [
            r#""open"#,
            "'open",
            r#""\q""#,
            r#""\x+1""#,
            r#""\400""#,
            r#""\x1"#,
        ] {
            assert_eq!(read(bad), Err(Unreadable), "{bad}");
        }
    }
}
