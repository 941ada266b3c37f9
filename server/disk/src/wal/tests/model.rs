//! Random histories against a log kept in a plain vector.

use proptest::prelude::*;

use super::*;
use crate::wal::EntryId;

#[derive(Clone, Debug)]
enum Step {
    Append {
        sizes: Vec<usize>,
        sync: bool,
    },
    Truncate {
        back: u64,
    },
    Purge {
        ahead: i64,
    },
    Vote(u8),
    Committed(u8),
    Read {
        from: u64,
        count: u64,
        max_bytes: usize,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![4 => 0usize..300, 1 => 300usize..6000];
    prop_oneof![
        6 => (prop::collection::vec(size, 1..6), prop::bool::weighted(0.8))
            .prop_map(|(sizes, sync)| Step::Append { sizes, sync }),
        1 => (0u64..8).prop_map(|back| Step::Truncate { back }),
        2 => (-2i64..20).prop_map(|ahead| Step::Purge { ahead }),
        1 => any::<u8>().prop_map(Step::Vote),
        2 => any::<u8>().prop_map(Step::Committed),
        3 => (0u64..40, 0u64..10, 0usize..9000)
            .prop_map(|(from, count, max_bytes)| Step::Read { from, count, max_bytes }),
        1 => Just(Step::Reopen),
    ]
}

/// The log as it should be.
#[derive(Default)]
struct Model {
    entries: Vec<Entry>,
    next: u64,
    purged: Option<u64>,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    counter: u64,
}

impl Model {
    fn append(&mut self, sizes: &[usize]) -> Vec<Record> {
        let mut records = Vec::new();
        for size in sizes {
            self.counter += 1;
            let entry = Entry {
                index: self.next,
                term: self.counter / 7,
                payload: Bytes::from(payload(self.counter, *size)),
            };
            self.next += 1;
            self.entries.push(entry.clone());
            let Entry {
                index,
                term,
                payload,
            } = entry;
            records.push(Record::Entry {
                index,
                term,
                payload,
            });
        }
        records
    }

    fn truncate(&mut self, back: u64) -> Record {
        let floor = self.purged.map_or(0, |purged| purged + 1);
        let from = self.next.saturating_sub(back).max(floor);
        self.entries.retain(|entry| entry.index < from);
        self.next = self.next.min(from);
        Record::TruncateAfter {
            index: from.checked_sub(1),
        }
    }

    fn purge(&mut self, ahead: i64) -> Record {
        let first = self.entries.first().map_or(self.next, |entry| entry.index);
        let index = first.saturating_add_signed(ahead);
        self.purged = self.purged.max(Some(index));
        self.entries.retain(|entry| entry.index > index);
        self.next = self.next.max(index + 1);
        purge(index)
    }

    fn check(&self, wal: &Wal) {
        let last = self.entries.last().map(|last| EntryId {
            index: last.index,
            term: last.term,
        });
        assert_eq!(wal.last(), last);
        assert_eq!(wal.purged().map(|(index, _)| index), self.purged);
        if let Some(first) = self.entries.first() {
            assert_eq!(wal.first_index(), first.index);
        }
        assert_eq!(
            wal.entries(wal.first_index())
                .map(Result::unwrap)
                .collect::<Vec<_>>(),
            self.entries
        );
    }

    fn check_read(&self, wal: &Wal, from: u64, count: u64, max_bytes: usize) {
        let read = wal.read(from..from + count, max_bytes);
        if count > 0 && self.purged.is_some_and(|purged| from <= purged) {
            assert!(matches!(read, Err(crate::wal::ReadError::Purged { .. })));
            return;
        }
        let mut expected = Vec::new();
        let mut bytes = 0;
        for entry in self
            .entries
            .iter()
            .filter(|e| (from..from + count).contains(&e.index))
        {
            bytes += entry.payload.len();
            if bytes > max_bytes && !expected.is_empty() {
                break;
            }
            expected.push(entry.clone());
        }
        assert_eq!(read.unwrap(), expected);
    }
}

fn options(cache_bytes: usize) -> Options {
    Options {
        cache_bytes,
        sync: false,
        ..small()
    }
}

fn run(steps: Vec<Step>, cache_bytes: usize) {
    let dir = temporary();
    let (mut wal, _) = open(dir.path(), options(cache_bytes)).unwrap();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append { sizes, sync } => {
                wal.append(model.append(&sizes), sync, Box::new(|| {}));
            }
            Step::Truncate { back } => append(&wal, vec![model.truncate(back)]),
            Step::Purge { ahead } => wal.append(vec![model.purge(ahead)], true, Box::new(|| {})),
            Step::Vote(byte) => {
                model.vote = Some(Bytes::from(vec![byte; 9]));
                wal.append(
                    model.vote.clone().map(Record::Vote).into_iter().collect(),
                    true,
                    Box::new(|| {}),
                );
            }
            Step::Committed(byte) => {
                model.committed = Some(Bytes::from(vec![byte; 5]));
                let records = model
                    .committed
                    .clone()
                    .map(Record::Committed)
                    .into_iter()
                    .collect();
                wal.append(records, false, Box::new(|| {}));
            }
            Step::Read {
                from,
                count,
                max_bytes,
            } => model.check_read(&wal, from, count, max_bytes),
            Step::Reopen => {
                wal.close();
                let recovered;
                (wal, recovered) = open(dir.path(), options(cache_bytes)).unwrap();
                assert_eq!(recovered.vote, model.vote);
                assert_eq!(recovered.committed, model.committed);
                assert_eq!(
                    recovered.purged.as_ref().map(|(index, _)| *index),
                    model.purged
                );
                assert_eq!(recovered.last, wal.last());
                assert_eq!(recovered.cut, None);
                model.check(&wal);
            }
        }
    }
    model.check(&wal);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_log_equals_its_model_after_any_history(
        steps in prop::collection::vec(step(), 1..60),
        cache_bytes in prop_oneof![Just(0usize), 0usize..20_000],
    ) {
        run(steps, cache_bytes);
    }
}
