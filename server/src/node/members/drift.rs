//! How far other members' clocks are from this one's: certificates, lease times that people read and
//! backups' dates go by them. Nothing here depends on it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::types::MemberId;

/// A difference that is told of. Source: etcd's probing_status.go.
const HIGH: Duration = Duration::from_secs(1);

/// This member's clock, milliseconds since 1970; 0 where it says something before that.
pub fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// How far a clock is from another, which was read at some moment of the `took` before `own`. None
/// where the other was not told, as by an earlier release.
fn drift(own_ms: u64, other_ms: u64, took: Duration) -> Option<Duration> {
    let half_ms = u64::try_from(took.as_millis() / 2).unwrap_or(u64::MAX);
    let at_ms = own_ms.saturating_sub(half_ms);
    (other_ms != 0).then(|| Duration::from_millis(at_ms.abs_diff(other_ms)))
}

/// Tells of a clock that is far away, in etcd's words.
pub fn tell(member: MemberId, other_ms: u64, took: Duration) {
    match drift(unix_ms(), other_ms, took) {
        Some(drift) if drift > HIGH => crate::log!(
            warn, "prober found high clock drift",
            "remote-peer-id" = %member, "clock-drift" = drift, rtt = took
        ),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_the_middle_of_the_call() {
        let ms = Duration::from_millis;
        assert_eq!(drift(10_000, 9_900, ms(200)), Some(Duration::ZERO));
        assert_eq!(drift(10_000, 12_000, ms(0)), Some(ms(2_000)));
        assert_eq!(drift(10_000, 7_000, ms(400)), Some(ms(2_800)));
        assert_eq!(drift(10_000, 0, ms(0)), None, "an earlier release");
    }
}
