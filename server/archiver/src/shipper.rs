//! The archiver's thread: the leader writes segment after segment, the others follow how far it is.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engram_archive::{
    Appended, Archive, ArchiveError, Built, Continuity, Head, History, Place, Writer, continuity,
};
use engram_objects::{BackupId, FIRST, Keys, Objects, Whose};
use engram_proto::backup as pb;
use engram_state::Auth;
use tokio::sync::watch::Receiver;

use crate::hold::{Hold, Holding};
use crate::meters::Meters;
use crate::progress::{Progress, shipped};
use crate::segments::Source;
use crate::store::Store;
use crate::threads;

/// How often the leader looks whether a segment is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a segment without a write says that there was none.
const IDLE_EVERY: Duration = Duration::from_secs(60);
/// How long storing a segment may take before it is tried again.
const PUT_LIMIT: Duration = Duration::from_secs(60);
/// How long to rest after a failure: doubled from the first to the last.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often a failure that lasts is told of.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Segments that one look follows.
const STEPS: usize = 1_000;

/// What the archiver asks of the member it is part of.
pub trait Member: Send + Sync + 'static {
    /// The term that this member leads.
    fn leads(&self) -> Option<u64>;
    /// Whether a quorum has confirmed, since it was asked, that it leads, and all that was committed
    /// before is applied here.
    fn confirm(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
    /// Bytes written to the log since the start.
    fn written_bytes(&self) -> u64;
    /// Whether the store comes near its quota.
    fn is_filling(&self) -> bool;
}

/// What is archived, where to, and within which bounds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to; it is opened when it is first written to, so that one that is away holds up no start.
    pub url: String,
    /// The cluster's name there.
    pub cluster: BackupId,
    /// Files with its keys there, the one that writes first; read when it is opened.
    pub key_files: Vec<PathBuf>,
    /// Its id, hexadecimal.
    pub cluster_id: String,
    /// This member's id, hexadecimal.
    pub member_id: String,
    /// This program's version.
    pub version: String,
    /// How far the archive may be behind while its store answers.
    pub delay_max: Duration,
    /// Bytes of records after which a segment ends.
    pub segment_bytes: usize,
    /// Bytes written to the log for which history is held.
    pub backlog_bytes: u64,
    /// Users and roles as rows of etcd's buckets.
    pub auth_rows: fn(&Auth) -> Vec<pb::AuthRow>,
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// Starts the thread. It ends once `stopping` is true.
///
/// # Errors
/// The system has no thread to give.
pub fn start(
    settings: Settings,
    store: Arc<Store>,
    holding: Holding,
    member: Arc<dyn Member>,
    registry: &prometheus::Registry,
    mut stopping: Receiver<bool>,
) -> io::Result<JoinHandle<()>> {
    let mut shipper = Shipper::new(settings, store, holding, member, Meters::new(registry));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()?;
    threads::spawn("engram-archive", move || {
        runtime.block_on(async {
            let progress = shipper.progress.clone();
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => {}
                never = progress.watch() => match never {},
                never = threads::beat() => match never {},
                never = shipper.work() => match never {},
            }
        });
        // A request on its way to the store of objects holds up no stop.
        runtime.shutdown_background();
    })
}

pub(crate) struct Shipper {
    settings: Settings,
    /// Once it was opened.
    archive: Option<Archive>,
    store: Arc<Store>,
    member: Arc<dyn Member>,
    pub(crate) progress: Arc<Progress>,
    /// The end of the chain, as far as is known.
    end: Option<Head>,
    /// The term in which it was found to be this cluster's.
    led: Option<u64>,
    shipped_at: Instant,
    /// What the log had written when the last segment was cut.
    written_at_cut: u64,
    failing: Option<Failing>,
    /// Whether the store was seen to keep what is there.
    is_exclusive: bool,
}

struct Failing {
    rest: Duration,
    told: Instant,
}

impl Shipper {
    pub(crate) fn new(
        settings: Settings,
        store: Arc<Store>,
        holding: Holding,
        member: Arc<dyn Member>,
        meters: Meters,
    ) -> Shipper {
        let journal = holding.journal();
        let bytes_max = settings.backlog_bytes;
        let hold = Hold::new(store.clone(), holding, member.clone(), bytes_max);
        Shipper {
            archive: None,
            settings,
            store,
            member,
            progress: Arc::new(Progress::new(journal, hold, meters)),
            end: None,
            led: None,
            shipped_at: Instant::now(),
            written_at_cut: 0,
            failing: None,
            is_exclusive: false,
        }
    }

    async fn work(&mut self) -> Infallible {
        loop {
            let rest = match self.turn().await {
                Ok(rest) => {
                    self.recovered();
                    rest
                }
                Err(error) => self.failed(&error),
            };
            tokio::time::sleep(rest).await;
        }
    }

    /// One look; how long to rest after it.
    pub(crate) async fn turn(&mut self) -> Result<Duration, ArchiveError> {
        let term = self.member.leads();
        self.progress.writes(term.is_some());
        if self.archive.is_none() {
            let keys = Keys::read(&self.settings.key_files)?;
            let objects = Objects::open(&self.settings.url)?.with_keys(keys);
            self.archive = Some(Archive::new(objects, &self.settings.cluster));
        }
        match term {
            Some(term) => self.lead(term).await,
            None => self.follow().await,
        }
    }

    fn recovered(&mut self) {
        if self.failing.take().is_some() {
            crate::log!(info, "the log archive's store answers again");
        }
    }

    pub(crate) fn failed(&mut self, error: &ArchiveError) -> Duration {
        self.progress.meters.failures.inc();
        // What lies there may be another's by now.
        self.led = None;
        if error.is_locked() {
            // The keys' files may be others by then.
            self.archive = None;
        }
        let now = Instant::now();
        let (rest, is_told) = match &self.failing {
            None => (REST.0, false),
            Some(failing) => (
                (failing.rest * 2).min(REST.1),
                now.duration_since(failing.told) < TELL_EVERY,
            ),
        };
        if !is_told {
            crate::log!(warn, "the log archive cannot be written or read; writes go on, and it is tried again",
                error = %error);
        }
        let told = match &self.failing {
            Some(failing) if is_told => failing.told,
            _ => now,
        };
        self.failing = Some(Failing { rest, told });
        rest
    }

    fn archive(&self) -> &Archive {
        self.archive.as_ref().expect("a turn begins with it")
    }

    /// Holds what the leader has not archived yet.
    async fn follow(&mut self) -> Result<Duration, ArchiveError> {
        self.led = None;
        let written = self.member.written_bytes();
        let end = match self.end.take() {
            Some(end) => Some(self.archive().follow(end, STEPS).await?),
            None => self.newest_end().await?,
        };
        if let Some(end) = &end {
            self.progress.at(end, written);
        }
        self.end = end;
        Ok(self.settings.delay_max)
    }

    /// The archives of clusters that have this one's id.
    async fn owners(&self) -> Result<Vec<Whose>, ArchiveError> {
        let mut owners = self.archive().owners().await?;
        owners.retain(|whose| whose.cluster_id == self.settings.cluster_id);
        Ok(owners)
    }

    async fn newest_end(&self) -> Result<Option<Head>, ArchiveError> {
        let mut newest: Option<Head> = None;
        let mut damage = None;
        for whose in self.owners().await? {
            let end = match self.archive().end(&whose).await {
                // It may be another cluster's, which had this id before.
                Err(error) if error.is_damage() => {
                    damage = Some(error);
                    continue;
                }
                end => end?,
            };
            let is_newer = |end: &Head| {
                let known = newest.as_ref().map(|known| known.header.last_ms);
                known.is_none_or(|known| known < end.header.last_ms)
            };
            newest = end.filter(is_newer).or(newest);
        }
        match (newest, damage) {
            (None, Some(error)) => Err(error),
            (newest, _) => Ok(newest),
        }
    }

    async fn lead(&mut self, term: u64) -> Result<Duration, ArchiveError> {
        if self.led != Some(term) {
            if !self.member.confirm().await || self.member.leads() != Some(term) {
                return Ok(LOOK_EVERY);
            }
            self.take_over(term).await?;
        }
        while self.led == Some(term) && self.is_due() && self.member.leads() == Some(term) {
            self.ship(term).await?;
        }
        Ok(LOOK_EVERY.min(self.settings.delay_max / 4))
    }

    /// Finds the chain that this cluster's history goes on from, or begins one.
    async fn take_over(&mut self, term: u64) -> Result<(), ArchiveError> {
        if !self.is_exclusive {
            self.archive().must_be_exclusive().await?;
            self.is_exclusive = true;
        }
        let mut best: Option<(Continuity, Head)> = None;
        // One whose end cannot be gone on from may be this cluster's, or that of another one of this id.
        let mut damaged: Option<(Whose, ArchiveError)> = None;
        let owners = self.owners().await?;
        for whose in &owners {
            let end = match self.archive().end(whose).await {
                Ok(Some(end)) => end,
                Ok(None) => continue,
                Err(error) if error.is_damage() => {
                    damaged = Some((whose.clone(), error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let grade = continuity(&end.header, &self.history(term, &end));
            let rank = |grade: Continuity, end: &Head| (grade, end.header.last_ms);
            let is_better = best
                .as_ref()
                .is_none_or(|(known, head)| rank(grade, &end) > rank(*known, head));
            if grade > Continuity::Broken && is_better {
                best = Some((grade, end));
            }
        }
        // What is proven is this cluster's; what is merely possible is not, beside one that cannot be told.
        if let Some((whose, error)) = damaged
            && best
                .as_ref()
                .is_none_or(|(grade, _)| *grade < Continuity::Proven)
        {
            // A new chain, of the next number.
            let run = self.archive().runs(&whose).await?.pop().unwrap_or(0) + 1;
            return self.begin(term, whose, run, &error.to_string()).await;
        }
        let Some((_, end)) = best else {
            let why = match &self.end {
                Some(end) if owners.is_empty() => {
                    let end = Place::of(&end.header);
                    format!("nothing of it is there any more, up to {end}")
                }
                _ => String::new(),
            };
            // What may come back has names of its own.
            let incarnation = match owners.is_empty() && why.is_empty() {
                true => FIRST.to_owned(),
                false => format!("{:x}", now_ms()),
            };
            let whose = Whose {
                cluster_id: self.settings.cluster_id.clone(),
                incarnation,
            };
            return self.begin(term, whose, 0, &why).await;
        };
        let begins_after = self.archive().begins_after(&end.header).await?;
        self.progress.meters.begins_after.set(begins_after);
        self.led = Some(term);
        self.reached(end);
        Ok(())
    }

    fn history(&self, term: u64, end: &Head) -> History {
        let newest = self.progress.journal.newest();
        let compacted = self.store.compact_revision().0;
        History {
            term,
            // The journal knows of no entry that changes nothing.
            index: newest.index.max(self.store.applied_index()),
            revision: newest.revision,
            compacted: if compacted > 0 { compacted } else { -1 },
            records: self
                .source(term, &end.header.whose)
                .digest_at(end.header.last_revision),
        }
    }

    fn source(&self, term: u64, whose: &Whose) -> Source<'_> {
        Source {
            store: &self.store,
            journal: &self.progress.journal,
            writer: Writer {
                whose: whose.clone(),
                term,
                member_id: self.settings.member_id.clone(),
                version: self.settings.version.clone(),
            },
            bytes_max: self.settings.segment_bytes,
            auth_rows: self.settings.auth_rows,
        }
    }

    /// Begins a chain; `why` there is a gap before it, where there is one.
    async fn begin(
        &mut self,
        term: u64,
        whose: Whose,
        run: u32,
        why: &str,
    ) -> Result<(), ArchiveError> {
        let first = self.source(term, &whose).first(run);
        if !self.append(term, &first).await? {
            return Ok(());
        }
        let begins_after = first.header.last_revision;
        self.progress.meters.begins_after.set(begins_after);
        match why.is_empty() {
            true => crate::log!(info, "began a log archive: take a full backup to restore from",
                place = %Place::of(&first.header), begins_after_revision = begins_after),
            false => {
                self.progress.meters.gaps.inc();
                crate::log!(error, "there is a gap in the log archive: take a full backup now, what lies before this revision cannot be gone on from",
                    place = %Place::of(&first.header), begins_after_revision = begins_after, why = why);
            }
        }
        Ok(())
    }

    /// Stores a segment; whether it is this one that lies there. If not, the next look finds out whose
    /// the other is.
    async fn append(&mut self, term: u64, built: &Built) -> Result<bool, ArchiveError> {
        let archive = self.archive().clone();
        let append = archive.append(built);
        let Ok(appended) = tokio::time::timeout(PUT_LIMIT, append).await else {
            return Err(archive.slow(&Place::of(&built.header), PUT_LIMIT));
        };
        match appended? {
            Appended::Done => {
                self.led = Some(term);
                let meters = &self.progress.meters;
                meters.segments.inc();
                meters
                    .bytes
                    .inc_by(u64::try_from(built.bytes.len()).unwrap_or(0));
                self.reached(Head {
                    header: built.header.clone(),
                    hash: built.hash.clone(),
                });
                Ok(true)
            }
            Appended::Other(there) => {
                crate::log!(info, "another member has written this segment of the log archive: going on after it",
                    place = %Place::of(&there.header), term = there.header.term);
                self.led = None;
                Ok(false)
            }
        }
    }

    fn reached(&mut self, end: Head) {
        self.progress.at(&end, self.written_at_cut);
        self.end = Some(end);
        self.shipped_at = Instant::now();
    }

    /// Whether a segment is due: by age, by size, or because nothing has happened for long.
    fn is_due(&self) -> bool {
        let Some(end) = &self.end else {
            return false;
        };
        let (journal, done) = (&self.progress.journal, shipped(end));
        let Some(waits) = journal.waits(done, now_ms()) else {
            return journal.has_notes_after(done) || self.shipped_at.elapsed() >= IDLE_EVERY;
        };
        // The other half is for storing it.
        let is_old = waits >= self.settings.delay_max / 2;
        let written = self.member.written_bytes() - self.written_at_cut;
        is_old || written >= self.settings.segment_bytes as u64
    }

    async fn ship(&mut self, term: u64) -> Result<(), ArchiveError> {
        let Some(end) = self.end.clone() else {
            return Ok(());
        };
        let now = now_ms();
        // Another one may lead, and have had writes acknowledged, of which this one has not heard: it would say that
        // there were none up to now.
        if !self.member.confirm().await || self.member.leads() != Some(term) {
            self.led = None;
            return Ok(());
        }
        let written = self.member.written_bytes();
        let from = end.header.last_revision;
        let source = self.source(term, &end.header.whose);
        let built = threads::on_disk(|| source.next(&end, now));
        // Looked at after it was read: what is reclaimed later was read before.
        let built = built
            .ok()
            .filter(|_| self.progress.hold.has_all_after(from));
        let Some(built) = built else {
            let why = format!("revisions after {from} were compacted before they were archived");
            let (whose, run) = (end.header.whose.clone(), end.header.run + 1);
            return self.begin(term, whose, run, &why).await;
        };
        self.written_at_cut = written;
        self.append(term, &built).await?;
        Ok(())
    }
}
