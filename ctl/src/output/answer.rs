//! One answer in the formats that it has.

use engram_proto::etcdserverpb as pb;
use prost::Message as _;
use serde::Serialize;

use super::table::{lines, table};
use super::{Fields, bytes, text, unsupported};
use crate::cli::{Format, Global};
use crate::failure::Failure;
use crate::go::json::{self, Message};

type Made<'a, T> = Box<dyn FnOnce() -> T + 'a>;

/// What a verb answers. Only what is written is made.
pub struct Answer<'a> {
    simple: Made<'a, Vec<u8>>,
    json: Option<Made<'a, String>>,
    protobuf: Option<Made<'a, Vec<u8>>>,
    fields: Option<Made<'a, Fields>>,
    table: Option<Made<'a, String>>,
}

impl<'a> Answer<'a> {
    /// An answer for people; in other formats, it is not supported.
    pub fn new(simple: impl FnOnce() -> Vec<u8> + 'a) -> Answer<'a> {
        Answer {
            simple: Box::new(simple),
            json: None,
            protobuf: None,
            fields: None,
            table: None,
        }
    }

    /// Rows: `a, b, c` lines, and a table.
    pub fn rows(header: &'a [&'a str], rows: &'a [Vec<String>]) -> Answer<'a> {
        Answer::new(|| lines(rows)).table(header, rows)
    }

    /// As the message that it came in: JSON by its descriptor, and protobuf. `name` is the message's
    /// in `etcdserverpb`.
    pub fn message(mut self, name: &'a str, message: &'a impl prost::Message) -> Answer<'a> {
        self.protobuf = Some(Box::new(|| message.encode_to_vec()));
        self.json(move || json::line(&Message::new(name, message)))
    }

    /// As protobuf, its header alone: Go's types of leases are messages by the header that they embed.
    pub fn header(mut self, header: &'a Option<pb::ResponseHeader>) -> Answer<'a> {
        self.protobuf = Some(Box::new(|| header.unwrap_or_default().encode_to_vec()));
        self
    }

    /// As JSON, a line with its end.
    pub fn json(mut self, json: impl FnOnce() -> String + 'a) -> Answer<'a> {
        self.json = Some(Box::new(json));
        self
    }

    /// As JSON of a type of Go's own.
    pub fn value<T: Serialize>(self, value: impl FnOnce() -> T + 'a) -> Answer<'a> {
        self.json(|| json::line(&value()))
    }

    /// As lines of names and values.
    pub fn fields(mut self, global: &Global, write: impl FnOnce(&mut Fields) + 'a) -> Answer<'a> {
        let mut fields = Fields::new(global.hex);
        self.fields = Some(Box::new(move || {
            write(&mut fields);
            fields
        }));
        self
    }

    /// As a table.
    pub fn table(mut self, header: &'a [&'a str], rows: &'a [Vec<String>]) -> Answer<'a> {
        self.table = Some(Box::new(move || table(header, rows)));
        self
    }

    /// Writes it as `--write-out` asks for.
    ///
    /// # Errors
    /// There is no such format of it; standard output is gone.
    pub fn write(self, global: &Global) -> Result<(), Failure> {
        let format = global.write_out;
        let missing = || unsupported(format);
        match format {
            Format::Simple => bytes(&(self.simple)()),
            Format::Json => text(&self.json.ok_or_else(missing)?()),
            Format::Protobuf => bytes(&self.protobuf.ok_or_else(missing)?()),
            Format::Fields => text(&self.fields.ok_or_else(missing)?().into_text()),
            Format::Table => text(&self.table.ok_or_else(missing)?()),
        }
    }
}
