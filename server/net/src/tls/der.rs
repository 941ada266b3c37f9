//! Just enough DER to read names, serial numbers and times out of certificates and revocation
//! lists. Nothing is verified here; what is read of a client was verified by webpki before.
//!
//! Own code, since crates that read all of X.509 bring a dozen others, and macros that make
//! RocksDB's bindings compile anew. Reading is bounded by the input and never panics.

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the DER that is expected")]
pub(super) struct Malformed;

/// Tags, as they are encoded.
pub(super) mod tag {
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const NUMERIC_STRING: u8 = 0x12;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const T61_STRING: u8 = 0x14;
    pub(crate) const IA5_STRING: u8 = 0x16;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const BMP_STRING: u8 = 0x1e;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    /// `[n]` around a value.
    pub(crate) const fn explicit(number: u8) -> u8 {
        0xa0 | number
    }
    /// `[n]` in place of a simple value's own tag.
    pub(crate) const fn implicit(number: u8) -> u8 {
        0x80 | number
    }
}

/// Values one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

/// One value: its tag and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next value; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Value<'a>>, Malformed> {
        let Some((&tag, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        // Tags of more than one byte do not occur in what is read here.
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (length, rest) = read_length(rest)?;
        let (content, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(Some(Value { tag, content }))
    }

    /// The next value, which has to have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        match self.next()? {
            Some(value) if value.tag == tag => Ok(value.content),
            _ => Err(Malformed),
        }
    }

    /// The next value if it has one of these tags.
    pub(super) fn optional(&mut self, tags: &[u8]) -> Result<Option<Value<'a>>, Malformed> {
        match self.0.first() {
            Some(tag) if tags.contains(tag) => self.next(),
            _ => Ok(None),
        }
    }

    /// The next value, a sequence, to be read in turn.
    pub(super) fn sequence(&mut self) -> Result<Reader<'a>, Malformed> {
        self.expect(tag::SEQUENCE).map(Reader)
    }
}

fn read_length(bytes: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    let (&first, rest) = bytes.split_first().ok_or(Malformed)?;
    if first < 0x80 {
        return Ok((usize::from(first), rest));
    }
    // Up to 4 GiB; "until its end" (0x80) is not DER.
    let count = usize::from(first & 0x7f);
    if count == 0 || count > 4 {
        return Err(Malformed);
    }
    let (digits, rest) = rest.split_at_checked(count).ok_or(Malformed)?;
    let length = digits
        .iter()
        .fold(0, |length, digit| length << 8 | usize::from(*digit));
    Ok((length, rest))
}

impl Value<'_> {
    /// The text of a string of any kind.
    pub(super) fn text(&self) -> Option<String> {
        match self.tag {
            tag::UTF8_STRING | tag::NUMERIC_STRING | tag::PRINTABLE_STRING | tag::IA5_STRING => {
                String::from_utf8(self.content.to_vec()).ok()
            }
            // Latin-1, as everybody reads it.
            tag::T61_STRING => Some(self.content.iter().copied().map(char::from).collect()),
            tag::BMP_STRING => {
                let pairs = self.content.chunks_exact(2);
                let units: Vec<u16> = pairs
                    .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                    .collect();
                String::from_utf16(&units).ok()
            }
            _ => None,
        }
    }

    /// A point in time, seconds since 1970.
    pub(super) fn seconds(&self) -> Result<i64, Malformed> {
        let digits = std::str::from_utf8(self.content).map_err(|_| Malformed)?;
        let digits = digits.strip_suffix('Z').ok_or(Malformed)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Malformed);
        }
        let (year, rest) = match (self.tag, digits.len()) {
            (tag::UTC_TIME, 12) => (century(number(&digits[..2])), &digits[2..]),
            (tag::GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
            _ => return Err(Malformed),
        };
        let part = |at: usize| number(&rest[at * 2..at * 2 + 2]);
        let (month, day) = (part(0), part(1));
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(Malformed);
        }
        let days = days_since_1970(year, month, day);
        Ok(((days * 24 + part(2)) * 60 + part(3)) * 60 + part(4))
    }
}

/// At most four digits.
fn number(digits: &str) -> i64 {
    digits
        .bytes()
        .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))
}

/// Years of two digits, by RFC 5280.
fn century(year: i64) -> i64 {
    match year {
        50.. => 1900 + year,
        _ => 2000 + year,
    }
}

/// Days of the Gregorian calendar, counted in years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = match month {
        3.. => (year, month - 3),
        _ => (year - 1, month + 9),
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read() {
        let seconds = |tag, text: &str| {
            let content = text.as_bytes();
            Value { tag, content }.seconds()
        };
        assert_eq!(seconds(tag::UTC_TIME, "700101000000Z"), Ok(0));
        assert_eq!(seconds(tag::UTC_TIME, "240229235959Z"), Ok(1_709_251_199));
        assert_eq!(
            seconds(tag::GENERALIZED_TIME, "20991231235959Z"),
            Ok(4_102_444_799)
        );
        assert_eq!(seconds(tag::UTC_TIME, "491231000000Z"), Ok(2_524_521_600));
        for text in ["", "Z", "240229235959", "241329235959Z", "24022923595xZ"] {
            assert_eq!(seconds(tag::UTC_TIME, text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn lengths_of_every_form_are_read() {
        let mut long = vec![tag::OCTET_STRING, 0x82, 0x01, 0x00];
        long.extend([7; 256]);
        long.extend([tag::INTEGER, 1, 5]);
        let mut reader = Reader::new(&long);
        assert_eq!(reader.expect(tag::OCTET_STRING).unwrap().len(), 256);
        assert_eq!(reader.expect(tag::INTEGER), Ok(&[5][..]));
        assert_eq!(reader.next(), Ok(None));
        for bytes in [
            &[0x30, 0x80][..],
            &[0x30, 5, 1],
            &[0x30],
            &[0x30, 0x84, 255],
        ] {
            assert_eq!(Reader::new(bytes).next(), Err(Malformed), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_reading_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes);
            while let Ok(Some(value)) = reader.next() {
                let _ = (value.text(), value.seconds());
            }
        }
    }
}
