//! A core that answers from a small table and remembers what was proposed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::backend::{
    Backend, HashKv, Header, LeaseReport, LeaseUse, MemberChange, MemberError, Pieces, RangeCursor,
    ServeError, SnapshotSource, StatusReport,
};
use crate::codec::Pages;
use crate::read::Answer;
use crate::state::{Auth, AuthTables, MemberRecord, RevisionRecord, Values};
use crate::types::auth::{Allows, Identity, Permission, Role, Secret, User};
use crate::types::request::{self, Op};
use crate::types::result::{self, Alarm, Applied, ApplyError, Item, Kept, Outcome};
use crate::types::{ClusterId, KeyValue, LeaseId, MemberId, Revision, RevisionPair};
use engram_watch::{self as watch, HeaderSource, Hub, Store, WatchStream};

pub(super) const HEADER: Header = Header {
    cluster: ClusterId(13_455_796_455_940_752_355),
    member: MemberId(443_629_905_751_424_238),
    revision: Revision(9),
    term: 2,
};
/// Keys `k000` to `k127`, as the goldens' range streams read.
const KEYS: usize = 128;

/// See the module.
#[derive(Default)]
pub struct Fake {
    /// Whether a read of the key `panic` does.
    pub(super) panics: AtomicBool,
    pub(super) proposed: Mutex<Vec<Op>>,
    pub(super) auth: Mutex<Arc<Auth>>,
    pub(super) alarms: Mutex<Vec<Alarm>>,
    pub(super) refuses: Mutex<Option<ServeError>>,
    pub(super) leaderless: AtomicBool,
    pub(super) learner: AtomicBool,
    pub(super) short_of_room: AtomicBool,
    /// Whether proposals are never decided.
    pub(super) stuck: AtomicBool,
    /// How many calls are stuck.
    pub(super) waiting: AtomicUsize,
    /// How long proposals and barriers take.
    pub(super) delay: Mutex<std::time::Duration>,
    /// Reads told of as slow.
    pub(super) slow_reads: AtomicUsize,
    /// The size of values.
    pub(super) value_len: Mutex<usize>,
}

/// Counts a stuck call off when it is dropped.
struct Leaving<'a>(&'a AtomicUsize);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    /// One that has users, and asks who calls: `root` with all rights, `user` with those to read and write
    /// the keys from `k` to `l`. Both have the password `pw`; the token of each is its name and a dot.
    #[must_use]
    pub fn with_users() -> Fake {
        let permission = Permission {
            key: "k".into(),
            range_end: "l".into(),
            allows: Allows::ReadWrite,
        };
        let roles = [("root", vec![]), ("user", vec![permission])];
        let roles = roles.map(|(name, permissions)| Role {
            name: name.into(),
            permissions,
        });
        let users = ["root", "user"].map(|name| User {
            name: name.into(),
            password_hash: Secret(b"hash of pw".to_vec()),
            roles: vec![name.into()],
            no_password: false,
        });
        let tables = AuthTables {
            switch: Some((true, 3)),
            users: users.into(),
            roles: roles.into(),
        };
        let auth = Mutex::new(Arc::new(Auth::load(tables)));
        Fake {
            auth,
            ..Fake::default()
        }
    }

    fn items(&self, query: &request::Range) -> Vec<Item> {
        let value = Bytes::from(vec![b'v'; *self.value_len.lock()]);
        let keys = (0..KEYS).map(|n| Bytes::from(format!("k{n:03}")));
        keys.filter(|key| query.range.contains(key))
            .map(|key| {
                let value = value.clone();
                let (create_revision, mod_revision) = (Revision(4), Revision(4));
                KeyValue {
                    key,
                    create_revision,
                    mod_revision,
                    version: 1,
                    value,
                    lease: LeaseId(0),
                }
            })
            .map(|kv| Item::Encoded(kv.encode()))
            .collect()
    }

    fn check(&self, query: &request::Range) -> Result<(), ApplyError> {
        let panics = self.panics.load(Ordering::SeqCst) && query.range.start == "panic";
        assert!(!panics, "the core panics");
        match query.revision {
            1..4 => Err(ApplyError::Compacted),
            revision if revision > HEADER.revision.0 => Err(ApplyError::FutureRevision),
            _ => Ok(()),
        }
    }

    async fn gate(&self) -> Result<(), ServeError> {
        if self.stuck.load(Ordering::SeqCst) {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let _leaving = Leaving(&self.waiting);
            std::future::pending::<()>().await;
        }
        let delay = *self.delay.lock();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.refuses.lock().clone().map_or(Ok(()), Err)
    }
}

/// Keys that are read page by page.
pub struct Cursor {
    items: std::vec::IntoIter<Item>,
}

impl RangeCursor for Cursor {
    fn head(&self) -> Revision {
        HEADER.revision
    }

    async fn next_page(&mut self, limit: usize) -> Result<result::Range, ApplyError> {
        let count = self.items.len() as i64;
        let items: Vec<_> = self.items.by_ref().take(limit).collect();
        let more = self.items.len() > 0;
        Ok(result::Range {
            items,
            more,
            count,
            ..result::Range::default()
        })
    }
}

struct EmptyStore;

impl Values for EmptyStore {
    fn get(&self, _: RevisionPair) -> Option<RevisionRecord> {
        None
    }

    fn scan(&self, _: RevisionPair, _: &mut dyn FnMut(RevisionRecord) -> bool) {}
}

impl Store for EmptyStore {
    fn revision(&self) -> Revision {
        HEADER.revision
    }

    fn compact_revision(&self) -> Revision {
        Revision(4)
    }

    fn previous(&self, _: &[u8], _: Revision) -> Option<Bytes> {
        None
    }
}

impl HeaderSource for EmptyStore {
    fn cluster(&self) -> ClusterId {
        HEADER.cluster
    }

    fn member(&self) -> MemberId {
        HEADER.member
    }

    fn raft_term(&self) -> u64 {
        HEADER.term
    }
}

impl Backend for Fake {
    type Cursor = Cursor;

    fn header(&self) -> Header {
        HEADER
    }

    async fn propose(&self, op: Op) -> Result<Outcome, ServeError> {
        self.gate().await?;
        let result = match op.bare() {
            Op::Put(_) => Ok(Applied::Put(result::Put::default())),
            Op::DeleteRange(_) => Ok(Applied::DeleteRange(result::DeleteRange::default())),
            Op::Txn(_) => Ok(Applied::Txn(result::Txn::default())),
            Op::Compact(compact) if compact.revision <= 4 => Err(ApplyError::Compacted),
            Op::LeaseRevoke(_) => Err(ApplyError::LeaseNotFound),
            Op::Alarm(_) => Ok(Applied::Alarm(self.alarms.lock().clone())),
            _ => Ok(Applied::Done),
        };
        self.proposed.lock().push(op);
        Ok(Outcome::new(Revision(10), result))
    }

    async fn lease_grant(&self, id: LeaseId, ttl_seconds: i64) -> Result<Outcome, ServeError> {
        self.gate().await?;
        let id = if id == LeaseId::NONE { LeaseId(77) } else { id };
        let granted = Applied::LeaseGrant {
            id,
            ttl_seconds: ttl_seconds.max(2),
        };
        Ok(Outcome::new(Revision(9), Ok(granted)))
    }

    fn is_auth_enabled(&self) -> bool {
        self.auth.lock().is_enabled()
    }

    fn auth(&self) -> Arc<Auth> {
        self.auth.lock().clone()
    }

    fn users_epoch(&self) -> u64 {
        self.auth.lock().revision()
    }

    async fn holder(&self, token: &str, revision: u64) -> Result<Option<Identity>, ServeError> {
        let user = token.split_once('.').map(|(user, _)| user.to_owned());
        let user = user.filter(|user| self.auth.lock().user(user).is_some());
        Ok(user.map(|user| Identity { user, revision }))
    }

    async fn sign_token(&self, _: &str, _: u64) -> Result<Option<String>, ServeError> {
        Ok(None)
    }

    async fn hash_password(&self, password: Secret) -> Result<Secret, ServeError> {
        Ok(Secret([b"hash of ", &*password.0].concat()))
    }

    async fn check_password(&self, hash: Secret, password: Secret) -> Result<bool, ServeError> {
        Ok(hash.0 == [b"hash of ", &*password.0].concat())
    }

    async fn check_leases(
        &self,
        by: &Identity,
        _: Vec<LeaseId>,
        _: LeaseUse,
    ) -> Result<(), ServeError> {
        let checked = self.auth.lock().check_admin(by);
        Ok(checked.map_err(ApplyError::from)?)
    }

    async fn read_barrier(&self) -> Result<(), ServeError> {
        self.gate().await
    }

    async fn table_barrier(&self) -> Result<(), ServeError> {
        match self.gate().await {
            Err(ServeError::Apply(ApplyError::Corrupt)) => Ok(()),
            passed => passed,
        }
    }

    async fn range(&self, query: &request::Range) -> Result<Answer<result::Range>, ServeError> {
        self.check(query)?;
        let mut items = self.items(query);
        let count = items.len() as i64;
        let limit = usize::try_from(query.limit).unwrap_or(0);
        if limit > 0 {
            items.truncate(limit);
        }
        let more = (items.len() as i64) < count;
        Ok(Answer {
            head: HEADER.revision,
            found: result::Range {
                items,
                more,
                count,
                ..result::Range::default()
            },
            pages: None,
        })
    }

    async fn range_cursor(&self, query: request::Range) -> Result<Cursor, ApplyError> {
        self.check(&query)?;
        Ok(Cursor {
            items: self.items(&query).into_iter(),
        })
    }

    async fn read_txn(&self, _: &request::Txn) -> Result<Answer<result::Txn>, ServeError> {
        let found = result::Txn {
            succeeded: true,
            responses: Vec::new(),
        };
        Ok(Answer {
            head: HEADER.revision,
            found,
            pages: None,
        })
    }

    async fn complete(&self, _: &mut Applied, _: Kept) -> Result<Option<Pages>, ServeError> {
        Ok(None)
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<i64, ServeError> {
        if id == LeaseId(77) {
            Ok(100)
        } else {
            Err(ServeError::LeaseNotFound)
        }
    }

    async fn lease_time_to_live(&self, _: LeaseId, _: bool) -> Result<LeaseReport, ServeError> {
        Ok(LeaseReport {
            remaining_seconds: -1,
            ..LeaseReport::default()
        })
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, ServeError> {
        Ok(vec![LeaseId(5), LeaseId(-9)])
    }

    fn watch(&self) -> WatchStream {
        let store = std::sync::Arc::new(EmptyStore);
        Hub::new(store.clone(), store, watch::Config::default()).open(None)
    }

    fn members(&self) -> Vec<MemberRecord> {
        let peer_urls = vec!["http://127.0.0.1:32380".to_owned()];
        vec![MemberRecord {
            id: HEADER.member,
            peer_urls,
            ..MemberRecord::default()
        }]
    }

    fn choose_member_id(&self, _: &[String]) -> MemberId {
        MemberId(99)
    }

    async fn change_members(&self, change: MemberChange) -> Result<Vec<MemberRecord>, MemberError> {
        let mut members = self.members();
        match change {
            MemberChange::Add { peer_urls, .. } if members[0].peer_urls == peer_urls => {
                Err(MemberError::UrlExists)
            }
            MemberChange::Add {
                id,
                peer_urls,
                learner,
            } => {
                members.push(MemberRecord {
                    id,
                    peer_urls,
                    learner,
                    ..MemberRecord::default()
                });
                Ok(members)
            }
            MemberChange::Remove { .. } => Err(MemberError::NotEnoughStarted),
            MemberChange::Update { .. } => Err(MemberError::NotFound),
            MemberChange::Promote { .. } => Err(MemberError::NotLearner),
        }
    }

    async fn move_leader(&self, _: MemberId) -> Result<(), MemberError> {
        Err(MemberError::TransferTimeout)
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.lock().clone()
    }

    fn leader(&self) -> Option<MemberId> {
        (!self.leaderless.load(Ordering::SeqCst)).then_some(HEADER.member)
    }

    async fn leader_lost(&self) {
        while self.leader().is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    fn is_learner(&self) -> bool {
        self.learner.load(Ordering::SeqCst)
    }

    fn is_short_of_room(&self) -> bool {
        self.short_of_room.load(Ordering::SeqCst)
    }

    fn cluster_version(&self) -> Option<String> {
        Some("3.7.0".into())
    }

    fn downgrade(&self) -> Option<String> {
        None
    }

    fn status(&self) -> StatusReport {
        StatusReport {
            leader: self.leader(),
            db_size: 36_864,
            ..StatusReport::default()
        }
    }

    async fn defragment(&self) -> Result<(), ServeError> {
        Ok(())
    }

    async fn hash(&self) -> Result<(Revision, u32), ServeError> {
        Ok((HEADER.revision, 1))
    }

    async fn hash_kv(&self, _: i64) -> Result<HashKv, ServeError> {
        let (head, hash_revision) = (HEADER.revision, HEADER.revision);
        Ok(HashKv {
            head,
            hash: 2_752_915_358,
            compact_revision: Revision(4),
            hash_revision,
        })
    }

    async fn compacted_physically(&self, _: Revision) -> Result<(), ServeError> {
        Ok(())
    }

    async fn snapshot_records(&self) -> Result<Pieces, ServeError> {
        let (sender, pieces) = mpsc::channel(4);
        sender.try_send(Ok(Bytes::from_static(b"piece"))).unwrap();
        Ok(pieces)
    }

    async fn snapshot(&self) -> Result<SnapshotSource, ServeError> {
        let (sender, pieces) = mpsc::channel(4);
        for len in [32_768, 4096, 32] {
            sender.try_send(Ok(Bytes::from(vec![1; len]))).unwrap();
        }
        Ok(SnapshotSource {
            total: 36_864,
            pieces,
        })
    }

    async fn interrupted(&self, require_leader: bool) -> ServeError {
        while !(require_leader && self.leader().is_none()) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        ServeError::NoLeader
    }

    fn slow_read(&self) {
        self.slow_reads.fetch_add(1, Ordering::SeqCst);
    }

    fn metrics_text(&self) -> String {
        "etcd_server_has_leader 1\n".into()
    }
}
