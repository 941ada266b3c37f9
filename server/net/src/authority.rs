//! Authorities of old clients: Go's of etcd 3.3 to 3.5.0 say `#initially=[host:port]`, a path, a text with
//! percent signs, or nothing, where a request names its host. Nobody here asks for it, but h2 resets the
//! stream. So such a field is given another name, in the bytes that were read, before h2 sees them.
//!
//! Only a literal that the client's table of headers remembers is renamed, which is how those clients
//! send it, and only to a name as long: so both ends go on to count their tables alike.
//!
//! Source: RFC 7541 (HPACK), RFC 9113 (frames).

use super::limits::FRAME_MAX;

/// The header of every frame: length, type, flags, stream.
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// A literal to be remembered, by the name `:authority` of the static table.
const AUTHORITY: u8 = 0x40 | 1;
/// The same by the name `set-cookie`: of ten characters too, and of no meaning in a request.
const SET_COOKIE: u8 = 0x40 | 55;

/// Huffman's code of HPACK, as far as authorities need it: bits, the first code of so many bits, and the
/// characters in the order of their codes (RFC 7541, appendix B).
const CODE: &[(u32, u32, &[u8])] = &[
    (5, 0x0, b"012aceiost"),
    (6, 0x14, b" %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, b"&*,;XZ"),
    (10, 0x3f8, b"!\"()?"),
    (11, 0x7fa, b"'+|"),
    (12, 0xffa, b"#>"),
    (13, 0x1ff8, b"\0$@[]~"),
    (14, 0x3ffc, b"^}"),
];
/// No code above has more bits.
const CODE_BITS_MAX: u32 = 14;

/// Follows the frames of one HTTP/2 client.
#[derive(Debug, Default)]
pub(super) struct Authorities {
    /// Bytes before the next frame's header.
    skip: usize,
}

impl Authorities {
    /// Looks at what came next, and renames in it. How much of it can be handed on: what is behind that
    /// begins a frame that must be whole first, and is to be given again.
    pub fn look(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - at);
            self.skip -= skipped;
            at += skipped;
            let Some(&[a, b, c, kind, flags, ..]) = bytes.get(at..at + FRAME_HEADER) else {
                return at;
            };
            let len = u32::from_be_bytes([0, a, b, c]);
            let end = at + FRAME_HEADER + len as usize;
            // A larger one ends the connection.
            if kind == HEADERS && len <= FRAME_MAX {
                let Some(payload) = bytes.get_mut(at + FRAME_HEADER..end) else {
                    return at;
                };
                if let Some(block) = fragment(payload, flags) {
                    rename(block);
                }
            }
            self.skip = end - at;
        }
    }

    /// How many bytes are missing behind those that could not be handed on.
    pub fn missing(held: &[u8]) -> usize {
        let payload = match held {
            [a, b, c, HEADERS, _, _, _, _, _, ..] => u32::from_be_bytes([0, *a, *b, *c]),
            _ => 0,
        };
        let waited_for = Some(payload).filter(|&len| len <= FRAME_MAX);
        let whole = FRAME_HEADER + waited_for.unwrap_or_default() as usize;
        whole.saturating_sub(held.len())
    }
}

/// The header block's part in a frame's payload.
fn fragment(payload: &mut [u8], flags: u8) -> Option<&mut [u8]> {
    let (mut begin, mut end) = (0, payload.len());
    if flags & PADDED != 0 {
        begin += 1;
        end = end.checked_sub(usize::from(*payload.first()?))?;
    }
    if flags & PRIORITY != 0 {
        begin += 5;
    }
    payload.get_mut(begin..end)
}

fn rename(block: &mut [u8]) {
    // As a rule the table remembers it, and this byte is not there.
    if block.contains(&AUTHORITY) {
        // What is no header block is for h2 to refuse.
        let _ = rename_in(block);
    }
}

fn rename_in(block: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while let Some(&first) = block.get(at) {
        let begun = at;
        let (bits, is_literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let name = integer(block, &mut at, bits)?;
        if !is_literal {
            continue;
        }
        if name == 0 {
            string(block, &mut at)?;
        }
        let value = string(block, &mut at)?;
        if first == AUTHORITY && !is_authority(value) {
            block[begun] = SET_COOKIE;
        }
    }
    Some(())
}

/// An integer whose first byte has so many bits of it (RFC 7541, 5.1).
fn integer(block: &[u8], at: &mut usize, bits: u32) -> Option<usize> {
    let mask = (1 << bits) - 1;
    let mut value = usize::from(*block.get(*at)?) & mask;
    *at += 1;
    if value < mask {
        return Some(value);
    }
    // More would be longer than any frame.
    for shift in [0, 7, 14] {
        let byte = usize::from(*block.get(*at)?);
        *at += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A string (RFC 7541, 5.2): whether it is in Huffman's code, and its bytes.
fn string<'a>(block: &'a [u8], at: &mut usize) -> Option<(bool, &'a [u8])> {
    let is_coded = block.get(*at)? & 0x80 != 0;
    let len = integer(block, at, 7)?;
    let bytes = block.get(*at..*at + len)?;
    *at += len;
    Some((is_coded, bytes))
}

fn is_authority((is_coded, bytes): (bool, &[u8])) -> bool {
    let decoded;
    let text = match is_coded {
        false => bytes,
        true => {
            decoded = decode(bytes).unwrap_or_default();
            &decoded
        }
    };
    http::uri::Authority::try_from(text).is_ok()
}

/// What is coded; none where there is a character in it of which [`CODE`] does not know.
fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let (mut code, mut bits) = (0, 0);
    for bit in coded
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |n| (byte >> n) & 1))
    {
        code = (code << 1) | u32::from(bit);
        bits += 1;
        let row = CODE.iter().find(|row| row.0 == bits);
        let found = row.and_then(|row| row.2.get(code.checked_sub(row.1)? as usize));
        if let Some(&character) = found {
            text.push(character);
            (code, bits) = (0, 0);
        }
        if bits > CODE_BITS_MAX {
            return None;
        }
    }
    // The rest is padding.
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of headers as a Go client begins with: method, scheme and path, then an authority.
    fn frame(authority: &[u8]) -> Vec<u8> {
        let mut block = vec![0x83, 0x86, 0x44, 0x02, b'/', b'a', 0x41];
        block.push(u8::try_from(authority.len()).unwrap());
        block.extend_from_slice(authority);
        // Remembered literals by new names, one of which has the byte in it.
        block.extend_from_slice(&[0x40, 0x01, b'A', 0x01, b'A', 0xbe]);
        let len = u8::try_from(block.len()).unwrap();
        [&[0, 0, len, HEADERS, 4, 0, 0, 0, 1][..], &block].concat()
    }

    #[test]
    fn what_h2_would_refuse_is_renamed_and_nothing_else_is_touched() {
        for (text, is_kept) in [
            ("127.0.0.1:2379", true),
            ("[::1]:2379", true),
            ("etcd.example", true),
            ("", false),
            ("/", false),
            ("#initially=[127.0.0.1:2379]", false),
            ("%23initially=%5B127.0.0.1:2379%5D", false),
            ("unix:///tmp/a.sock", false),
        ] {
            let wanted = frame(text.as_bytes());
            let mut bytes = wanted.clone();
            assert_eq!(Authorities::default().look(&mut bytes), wanted.len());
            let changed: Vec<_> = (0..bytes.len())
                .filter(|&at| bytes[at] != wanted[at])
                .collect();
            match is_kept {
                true => assert!(changed.is_empty(), "{text}"),
                false => assert_eq!((changed, bytes[15]), (vec![15], SET_COOKIE), "{text}"),
            }
        }
    }

    #[test]
    fn frames_are_followed_wherever_they_are_cut() {
        let data = [&[0, 0, 3, 0, 0, 0, 0, 0, 1][..], &[0x41, 0x00, 0x41]].concat();
        let whole = [data.clone(), frame(b"/"), data, frame(b"#")].concat();
        let mut wanted = whole.clone();
        assert_eq!(Authorities::default().look(&mut wanted), whole.len());
        for cut in 0..whole.len() {
            let mut authorities = Authorities::default();
            let mut first = whole[..cut].to_vec();
            let passed = authorities.look(&mut first);
            let mut rest = first.split_off(passed);
            assert!(
                rest.is_empty() || Authorities::missing(&rest) > 0,
                "cut at {cut}"
            );
            rest.extend_from_slice(&whole[cut..]);
            assert_eq!(authorities.look(&mut rest), rest.len(), "cut at {cut}");
            assert_eq!([first, rest].concat(), wanted, "cut at {cut}");
        }
    }

    #[test]
    fn huffmans_code_is_read_as_in_rfc_7541() {
        let coded = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decode(&coded).unwrap(), b"www.example.com");
        // '#' has twelve bits, and 'é' more than are known.
        assert_eq!(decode(&[0xff, 0xaf]).unwrap(), b"#");
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn bytes_that_are_no_headers_are_left_alone() {
        for block in [
            &[0x41][..],
            &[0x41, 0x05, b'a'],
            &[0x41, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x7f, 0x41],
            &[0x40, 0x41],
        ] {
            let mut bytes = block.to_vec();
            rename(&mut bytes);
            assert_eq!(bytes, block);
        }
    }
}
