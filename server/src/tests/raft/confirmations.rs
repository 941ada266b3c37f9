//! That a member leads, confirmed by as few as make a quorum, whoever of them is away.

use std::time::{Duration, Instant};

use super::cluster::{Cluster, Member};
use crate::peer::Declined;

/// More than it takes to find out that the few who were asked do not answer.
const AT_ONCE: Duration = Duration::from_millis(500);

async fn confirmed(leader: &Member) -> Duration {
    let began = Instant::now();
    let confirmed = leader.consensus.confirm_lead().await;
    let position = confirmed.expect("a quorum answers");
    assert_eq!(Some(position.term), leader.consensus.leadership().own_term);
    began.elapsed()
}

#[tokio::test]
async fn whoever_of_two_followers_is_away_the_other_one_confirms_at_once() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let others = || {
        cluster
            .members
            .iter()
            .filter(|member| member.id != leader.id)
    };
    for away in others() {
        confirmed(leader).await;
        cluster.partition.isolate(away.id);
        for _ in 0..20 {
            let took = confirmed(leader).await;
            assert!(took < AT_ONCE, "{took:?} while {:?} is away", away.id);
        }
        cluster.partition.heal();
        cluster.converge().await;
    }
    for away in others() {
        cluster.partition.isolate(away.id);
    }
    let refused = leader
        .consensus
        .confirm_lead()
        .await
        .expect_err("nobody answers");
    assert!(
        matches!(refused, Declined::TimedOut | Declined::NotLeader),
        "{refused:?}"
    );
    cluster.stop().await;
}
