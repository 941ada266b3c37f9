//! What tests and fuzzing compare answers by.

use prost::Message;

use super::frame::{Frame, Piece};

/// The bytes of a frame without runs, as they are sent.
///
/// # Panics
/// It has a run.
#[must_use]
pub fn wire(frame: Frame) -> Vec<u8> {
    let (first, more, _) = frame.into_pieces();
    more.fold(first.to_vec(), |mut all, piece| {
        let Piece::Bytes(piece) = piece else {
            unreachable!("no runs were asked for")
        };
        all.extend_from_slice(&piece);
        all
    })
}

/// The bytes that prost makes of a message, behind gRPC's prefix.
///
/// # Panics
/// It is longer than the prefix can say.
#[must_use]
pub fn prefixed(message: &impl Message) -> Vec<u8> {
    let length = u32::try_from(message.encoded_len()).expect("it is short");
    [&[0], &length.to_be_bytes()[..], &message.encode_to_vec()].concat()
}
