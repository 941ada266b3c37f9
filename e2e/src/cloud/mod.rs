//! A store of objects that speaks Google's or Azure's API, as far as a backup uses it: conditional puts,
//! ranges, lists in pages, tokens. It is ours, so that the tests that every change runs need nothing from
//! elsewhere; Azurite, which is Microsoft's, goes the same stories in `make backup-clouds`.

mod azure;
mod google;
mod http;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use self::azure::ACCOUNT;
pub use self::azure::SAS;
pub use self::google::KEY_ID;
use self::http::{Answer, Request};

/// The one bucket, or container, that there is.
pub const BUCKET: &str = "backups";
/// What machines that are who they say get from the cloud's identity service.
pub const MACHINE_TOKEN: &str = "token-of-the-machine";
/// Names in a page of a list: few, so that lists have several.
const PAGE: usize = 5;

/// Whose API is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Google Cloud Storage's XML API.
    Google,
    /// Azure Blob Storage's REST API.
    Azure,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Vec<u8>,
    generation: u64,
    /// Nobody may remove it, or write over it.
    is_locked: bool,
}

#[derive(Debug, Default)]
struct Objects {
    all: BTreeMap<String, Object>,
    generation: u64,
}

impl Objects {
    fn put(&mut self, name: String, bytes: Vec<u8>) -> u64 {
        self.generation += 1;
        let generation = self.generation;
        let object = Object {
            bytes,
            generation,
            is_locked: false,
        };
        self.all.insert(name, object);
        generation
    }
}

/// A page of a list.
#[derive(Debug, Default)]
struct Page {
    objects: Vec<(String, Object)>,
    prefixes: Vec<String>,
    next: Option<String>,
}

/// The names after `after` that begin with `prefix`; with a delimiter, directories once each.
fn page(objects: &Objects, prefix: &str, has_delimiter: bool, after: &str) -> Page {
    let mut page = Page::default();
    for (name, object) in &objects.all {
        let Some(rest) = name.strip_prefix(prefix) else {
            continue;
        };
        let directory = rest.split_once('/').filter(|_| has_delimiter);
        let directory = directory.map(|(first, _)| format!("{prefix}{first}/"));
        let shown = directory.as_deref().unwrap_or(name);
        if shown <= after || page.prefixes.last().is_some_and(|last| last == shown) {
            continue;
        }
        if page.objects.len() + page.prefixes.len() == PAGE {
            let last_object = page.objects.last().map(|(name, _)| name.clone());
            page.next = last_object.max(page.prefixes.last().cloned());
            return page;
        }
        match directory {
            Some(directory) => page.prefixes.push(directory),
            None => page.objects.push((name.clone(), object.clone())),
        }
    }
    page
}

/// A running one. It ends with the test's process at the latest.
#[derive(Debug)]
pub struct Cloud {
    dialect: Dialect,
    address: SocketAddr,
    objects: Arc<Mutex<Objects>>,
    is_over: Arc<AtomicBool>,
}

impl Cloud {
    /// Starts one.
    pub fn start(dialect: Dialect) -> Cloud {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let cloud = Cloud {
            dialect,
            address,
            objects: Arc::default(),
            is_over: Arc::default(),
        };
        let (objects, is_over) = (cloud.objects.clone(), cloud.is_over.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (objects, stream) = (objects.clone(), stream.expect("a connection"));
                thread::spawn(move || {
                    http::serve(stream, |request| answer(dialect, &objects, request));
                });
            }
        });
        cloud
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A bucket of it as `--store` names it.
    pub fn store(&self, bucket: &str) -> String {
        let place = match self.dialect {
            Dialect::Google => format!("gs://{bucket}/some/prefix"),
            Dialect::Azure => format!("az://{ACCOUNT}/{bucket}/some/prefix"),
        };
        format!("{place}?endpoint=http://{}&allow_http=true", self.address)
    }

    /// How many objects there are.
    pub fn objects(&self) -> usize {
        lock(&self.objects).all.len()
    }

    /// How many objects hold these bytes.
    pub fn objects_with(&self, wanted: &[u8]) -> usize {
        let objects = lock(&self.objects);
        let has = |object: &&Object| {
            let mut parts = object.bytes.windows(wanted.len());
            parts.any(|part| part == wanted)
        };
        objects.all.values().filter(has).count()
    }

    /// Removes the objects of these names, whatever is locked; how many there were.
    pub fn lose(&self, is_meant: impl Fn(&str) -> bool) -> usize {
        let mut objects = lock(&self.objects);
        let before = objects.all.len();
        objects.all.retain(|name, _| !is_meant(name));
        before - objects.all.len()
    }

    /// Changes the last byte of the objects of these names, or changes it back; how many there are.
    pub fn damage(&self, is_meant: impl Fn(&str) -> bool) -> usize {
        let mut objects = lock(&self.objects);
        let meant = objects.all.iter_mut().filter(|(name, _)| is_meant(name));
        let damaged = meant.filter_map(|(_, object)| object.bytes.last_mut());
        damaged.map(|last| *last ^= 1).count()
    }

    /// Lets nobody remove or write over what is there, as a retention does, or lets them again.
    pub fn lock_objects(&self, is_locked: bool) {
        let mut objects = lock(&self.objects);
        for object in objects.all.values_mut() {
            object.is_locked = is_locked;
        }
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // The listener looks once more.
        drop(std::net::TcpStream::connect(self.address));
    }
}

fn lock(objects: &Mutex<Objects>) -> MutexGuard<'_, Objects> {
    objects.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(dialect: Dialect, objects: &Mutex<Objects>, request: &Request) -> Answer {
    let mut objects = lock(objects);
    match dialect {
        Dialect::Google => google::answer(&mut objects, request),
        Dialect::Azure => azure::answer(&mut objects, request),
    }
}

/// The object, or the part of it that was asked for.
fn got(object: &Object, request: &Request) -> Answer {
    let whole = &object.bytes;
    let range = request.header("range").or(request.header("x-ms-range"));
    let range = range.and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        let first: usize = first.parse().ok()?;
        let last: usize = last.parse().ok()?;
        Some((first, last.min(whole.len().checked_sub(1)?)))
    });
    let answer = match range {
        Some((first, last)) if first <= last => Answer::new(206, whole[first..=last].to_vec())
            .with(
                "content-range",
                format!("bytes {first}-{last}/{}", whole.len()),
            ),
        _ => Answer::new(200, whole.clone()),
    };
    answer
        .with("etag", format!("\"{}\"", object.generation))
        .with("x-goog-generation", object.generation.to_string())
        .with("last-modified", "Mon, 30 Nov 2026 06:00:00 GMT".to_owned())
        .with("x-ms-blob-type", "BlockBlob".to_owned())
}

/// Text within XML.
fn text(raw: &str) -> String {
    raw.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
