//! When a unary call's request was there, and what is told of the call once it is answered.

use std::time::Duration;

use bytes::Bytes;

use super::Edge;
use super::backend::Backend;
use super::coarse::coarse_now;
use super::durations::Started;
use super::error::Refusal;
use super::request_stats::{self, Answered};
use super::table::ROWS;
use crate::codec::Frame;
use crate::net::PeerAddress;
use crate::trace::{self, Level};

/// A unary call whose request is there: how fast a client sends is not our duration.
pub(super) struct Arrival {
    at: Duration,
    started: Started,
    message: Bytes,
}

impl Arrival {
    /// `message` is there now.
    pub(super) fn now(message: &Bytes, started: Started) -> Arrival {
        Arrival {
            at: coarse_now(),
            started,
            message: message.clone(),
        }
    }

    fn took(&self) -> Duration {
        coarse_now().saturating_sub(self.at)
    }
}

impl<B: Backend> Edge<B> {
    /// A unary call was answered: times it, and logs it where it took long.
    pub(super) fn account(
        &self,
        row: usize,
        peer: PeerAddress,
        arrival: &Arrival,
        answer: &Result<Frame, Refusal>,
    ) {
        self.metrics().timed(row, arrival.started);
        let config = self.config();
        let took = arrival.took();
        let quick = took <= config.warning_unary_request && took <= config.warning_apply;
        if quick && !trace::enabled(Level::Debug) {
            return;
        }
        let row = &ROWS[row];
        let message = &arrival.message;
        self.tell(&Answered {
            row,
            peer,
            message,
            answer,
            took,
        });
    }

    #[cold]
    fn tell(&self, answered: &Answered<'_>) {
        let config = self.config();
        let is_slow = answered.took > config.warning_unary_request;
        if is_slow || trace::enabled(Level::Debug) {
            request_stats::tell(answered, is_slow);
        }
        let is_slow_read = answered.took > config.warning_apply
            && request_stats::tell_slow_read(answered, config.warning_apply);
        if is_slow_read {
            self.backend().slow_read();
        }
    }
}
