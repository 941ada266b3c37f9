//! The frames of an HTTP/2 client, counted by their headers as they come in: frames that ask for
//! nothing are cheap to send, and each costs the connection's thread.
//!
//! hyper and h2 bound resets, continuations and empty data, and tell of none of these. Nor do they
//! tell of pings, which a client may send only so often (`--grpc-keepalive-min-time`). Source of
//! that rule: grpc-go's `http2Server.handlePing`; unlike there a client without a call under way is
//! held to the same interval, not to two hours.

use std::time::{Duration, Instant};

/// The header of every frame: length, type, flags, stream.
const HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
/// How many frames that ask for nothing a client may send at once.
const CONTROL_BURST: u64 = 10_000;
/// How many a second it may send besides what it earns.
const CONTROL_A_SECOND: u64 = 1000;
/// What settings take of that: another initial window changes every stream there is.
const SETTINGS_COST: u64 = 100;
/// What each request earns: its windows, a ping, its reset.
const EARNED_BY_REQUEST: u64 = 8;
/// What is sent to the client, bytes, earns a frame: it gives back windows for it.
const BYTES_EARN_ONE: u64 = 1024;

/// Pings that may come too early before the client is sent away (grpc-go's `maxPingStrikes`).
const EARLY_PINGS_MAX: u32 = 2;
const PING: u8 = 6;
const ACK: u8 = 1;
/// The frame that answers a ping.
const PONG_BYTES: u64 = 17;
/// What is sent beside answers to pings and is no answer to a call: settings acknowledged, a window.
const SMALL_TALK_BYTES: u64 = 40;

/// As [`CALM_DOWN`], in the words that grpc-go's clients look for.
const TOO_MANY_PINGS: [u8; 31] = *b"\0\0\x16\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\x0btoo_many_pings";

/// Bytes of a GOAWAY that says ENHANCE_YOUR_CALM. The last stream it names is the highest there can
/// be: any may have been served.
pub(super) const CALM_DOWN: [u8; 17] = [
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0xb,
];

/// Counts the frames of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes before the next header: of the preface, or of a frame's payload.
    skip: usize,
    header: [u8; HEADER_BYTES],
    header_len: usize,
    /// Frames that may still come.
    credit: u64,
    sent_bytes: u64,
    refilled: Instant,
    pings: Pings,
    requests: u64,
}

/// What a client is sent away for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooMany {
    /// Frames that ask for nothing.
    Frames,
    /// Pings that came too early.
    Pings,
}

impl TooMany {
    /// The frame that tells the client.
    pub fn goodbye(self) -> &'static [u8] {
        match self {
            TooMany::Frames => &CALM_DOWN,
            TooMany::Pings => &TOO_MANY_PINGS,
        }
    }

    /// The same for the log.
    pub fn reason(self) -> &'static str {
        match self {
            TooMany::Frames => "too many frames that ask for nothing",
            TooMany::Pings => "too many pings",
        }
    }
}

/// How often the client has pinged.
#[derive(Debug)]
struct Pings {
    interval_min: Duration,
    last: Option<Instant>,
    early: u32,
    /// Bytes sent so far, and how many it takes to know that a call was answered since the last
    /// ping: a client that is answered may ping.
    sent: u64,
    answered_beyond: u64,
}

impl Pings {
    fn new(interval_min: Duration) -> Pings {
        Pings {
            interval_min,
            last: None,
            early: 0,
            sent: 0,
            answered_beyond: SMALL_TALK_BYTES,
        }
    }

    fn came(&mut self, now: Instant) -> Result<(), TooMany> {
        let last = self.last.replace(now);
        let is_answered = self.sent > self.answered_beyond;
        self.answered_beyond += PONG_BYTES;
        if is_answered {
            self.answered_beyond = self.sent + PONG_BYTES + SMALL_TALK_BYTES;
            self.early = 0;
            return Ok(());
        }
        let is_early = |last| now.duration_since(last) < self.interval_min;
        self.early += u32::from(last.is_some_and(is_early));
        match self.early > EARLY_PINGS_MAX {
            true => Err(TooMany::Pings),
            false => Ok(()),
        }
    }
}

impl Frames {
    /// Of a connection that begins with so many bytes of preface, and whose client leaves so much
    /// time between two pings.
    pub fn after(preface_bytes: usize, ping_interval_min: Duration) -> Frames {
        Frames {
            skip: preface_bytes,
            header: [0; HEADER_BYTES],
            header_len: 0,
            credit: CONTROL_BURST,
            sent_bytes: 0,
            refilled: Instant::now(),
            pings: Pings::new(ping_interval_min),
            requests: 0,
        }
    }

    /// How many requests have come so far.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// So much was sent to the client.
    pub fn sent(&mut self, bytes: usize) {
        self.sent_bytes += bytes as u64;
        self.pings.sent += bytes as u64;
    }

    /// Looks at what has come in.
    ///
    /// # Errors
    /// The client is to be sent away.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<(), TooMany> {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(HEADER_BYTES - self.header_len);
            self.header[self.header_len..self.header_len + taken].copy_from_slice(&bytes[..taken]);
            self.header_len += taken;
            bytes = &bytes[taken..];
            if self.header_len == HEADER_BYTES {
                self.header_len = 0;
                self.frame()?;
            }
        }
        Ok(())
    }

    fn frame(&mut self) -> Result<(), TooMany> {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.skip = u32::from_be_bytes([0, high, middle, low]) as usize;
        if kind == PING && flags & ACK == 0 && !self.pings.interval_min.is_zero() {
            self.pings.came(Instant::now())?;
        }
        match kind {
            HEADERS => {
                self.requests += 1;
                self.credit = (self.credit + EARNED_BY_REQUEST).min(CONTROL_BURST);
            }
            DATA if self.skip > 0 => {}
            SETTINGS if self.skip > 0 => return self.pay(SETTINGS_COST),
            _ => return self.pay(1),
        }
        Ok(())
    }

    fn pay(&mut self, cost: u64) -> Result<(), TooMany> {
        if self.credit < cost {
            return self.refill(cost);
        }
        self.credit -= cost;
        Ok(())
    }

    /// Looks at the clock, once the credit is used up.
    #[cold]
    fn refill(&mut self, cost: u64) -> Result<(), TooMany> {
        let now = Instant::now();
        let passed = now
            .duration_since(self.refilled)
            .min(Duration::from_secs(10));
        let millis = u64::try_from(passed.as_millis()).expect("ten seconds fit");
        let earned = millis * CONTROL_A_SECOND / 1000 + self.sent_bytes / BYTES_EARN_ONE;
        if earned < cost {
            return Err(TooMany::Frames);
        }
        self.refilled = now;
        self.sent_bytes %= BYTES_EARN_ONE;
        self.credit = (earned - cost).min(CONTROL_BURST);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(payload).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, 0, 0, 0, 0, 0]);
        bytes.resize(HEADER_BYTES + payload, kind);
        bytes
    }

    /// How many of a flood are taken.
    fn flood(frames: &mut Frames, kind: u8, payload: usize) -> u64 {
        let bytes = frame(kind, payload);
        let end = Instant::now() + Duration::from_millis(300);
        let mut taken = 0;
        while Instant::now() < end && frames.read(&bytes).is_ok() {
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_flood_of_frames_that_ask_for_nothing_is_stopped() {
        for (kind, payload) in [(2, 5), (4, 0), (6, 8), (8, 4), (3, 4), (0, 0), (77, 1)] {
            let taken = flood(&mut Frames::after(0, Duration::ZERO), kind, payload);
            assert!(
                (CONTROL_BURST..CONTROL_BURST + 2000).contains(&taken),
                "{taken} of type {kind}"
            );
        }
    }

    #[test]
    fn settings_that_change_something_are_dearer() {
        let taken = flood(&mut Frames::after(0, Duration::ZERO), SETTINGS, 6);
        let burst = CONTROL_BURST / SETTINGS_COST;
        assert!((burst..burst + 20).contains(&taken), "{taken}");
    }

    #[test]
    fn requests_data_and_windows_for_what_was_sent_are_no_flood() {
        let mut frames = Frames::after(24, Duration::ZERO);
        assert_eq!(frames.read(&[0x50; 24]), Ok(()));
        let (request, data, window) = (frame(HEADERS, 60), frame(DATA, 300), frame(8, 4));
        for _ in 0..100_000 {
            for bytes in [&request, &data, &window, &window, &window] {
                assert_eq!(frames.read(bytes), Ok(()));
            }
        }
        for _ in 0..100_000 {
            frames.sent(16 << 10);
            assert_eq!(frames.read(&window), Ok(()));
        }
    }

    #[test]
    fn frames_are_counted_however_they_come_in() {
        let mut bytes = vec![0; 24];
        for payload in [0, 1, 8, 9, 10, 300] {
            bytes.extend(frame(8, payload));
        }
        for size in 1..40 {
            let mut frames = Frames::after(24, Duration::ZERO);
            for piece in bytes.chunks(size) {
                frames.read(piece).unwrap();
            }
            assert_eq!(frames.credit, CONTROL_BURST - 6, "in pieces of {size}");
        }
    }

    #[test]
    fn a_fourth_early_ping_is_too_many_unless_calls_are_answered() {
        let minute = Duration::from_secs(60);
        let (ping, mut pong) = (frame(PING, 8), frame(PING, 8));
        pong[4] = ACK;
        let mut frames = Frames::after(0, minute);
        for _ in 0..3 {
            assert_eq!(frames.read(&ping), Ok(()));
            frames.sent(17);
        }
        assert_eq!(frames.read(&ping), Err(TooMany::Pings));
        let mut answered = Frames::after(0, minute);
        let mut lenient = Frames::after(0, Duration::ZERO);
        for _ in 0..100 {
            answered.sent(17 + 70);
            assert_eq!(answered.read(&ping), Ok(()));
            assert_eq!(answered.read(&pong), Ok(()));
            assert_eq!(lenient.read(&ping), Ok(()));
        }
        assert!(TooMany::Pings.goodbye().ends_with(b"too_many_pings"));
    }
}
