//! `/debug/pprof/`, with `--enable-pprof`: the pages of Go's `net/http/pprof`, for `go tool pprof`.
//!
//! Source: Go's `src/net/http/pprof/pprof.go`; which of them etcd has: `pkg/debugutil/pprof.go`.

use std::convert::Infallible;
use std::sync::mpsc;
use std::time::Duration;

use engram_profile::{cpu, memory, threads as dump};
use http::header::{CONTENT_DISPOSITION, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use tonic::body::Body;

use super::http::{self as pages, PLAIN, Query, html, no_sniffing, page, panicked};
use crate::threads;

/// Where they are.
pub const PROFILES: &str = "/debug/pprof";

/// What Go takes where nothing is said, seconds.
const SECONDS: u64 = 30;
/// The longest profile of the processor, seconds: nobody else has one meanwhile.
const SECONDS_MAX: u64 = 300;
const BYTES: &str = "application/octet-stream";
/// How Go marks what it refuses here.
const REFUSED: HeaderName = HeaderName::from_static("x-go-pprof");

const INDEX: &str = "<html>
<head>
<title>/debug/pprof/</title>
</head>
<body>
/debug/pprof/
<p>Types of profiles available:</p>
<ul>
<li><a href='cmdline'>cmdline</a>: the arguments, with a NUL between</li>
<li><a href='goroutine?debug=2'>goroutine</a>: the threads, and what they wait for in the kernel</li>
<li><a href='heap?debug=1'>heap</a>: resident memory, by what it is of</li>
<li><a href='profile'>profile</a>: where the processor's time goes, in 30 seconds or <code>?seconds=</code></li>
</ul>
</body>
</html>
";

/// Whether a path is one of these pages'.
pub fn answers(path: &str) -> bool {
    path.strip_prefix(PROFILES)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The page of a path that is one of these.
pub async fn answer(path: &str, query: &Query<'_>) -> Response<Body> {
    let name = path.get(PROFILES.len() + 1..).unwrap_or_default();
    let for_people = query.first("debug").is_some_and(|level| level != "0");
    match name {
        "" => {
            let mut index = html(INDEX);
            no_sniffing(&mut index);
            index
        }
        "cmdline" => plain(std::env::args().collect::<Vec<_>>().join("\0")),
        // What there are names for has them already.
        "symbol" => plain("num_symbols: 0\n".into()),
        "profile" => of_the_processor(query).await,
        "heap" if for_people => read(|| plain(memory::text())).await,
        "heap" => read(|| attachment("heap", memory::profile())).await,
        "goroutine" if for_people => read(|| plain(dump::text())).await,
        "goroutine" => read(|| attachment("goroutine", dump::profile())).await,
        "trace" => refused(
            StatusCode::NOT_IMPLEMENTED,
            "Could not enable tracing: this is no Go program; take `profile` instead",
        ),
        _ => refused(StatusCode::NOT_FOUND, "Unknown profile"),
    }
}

async fn of_the_processor(query: &Query<'_>) -> Response<Body> {
    let asked = query.first("seconds").and_then(|text| text.parse().ok());
    let seconds = asked.filter(|seconds| *seconds > 0).unwrap_or(SECONDS);
    if seconds > SECONDS_MAX {
        let text = format!("a profile takes {SECONDS_MAX} seconds at most");
        return refused(StatusCode::BAD_REQUEST, &text);
    }
    // Dropped with this call, if its client goes away.
    let (_waits, abandoned) = mpsc::channel::<Infallible>();
    let time = Duration::from_secs(seconds);
    match threads::spawn_blocking(move || cpu::profile(time, &abandoned)).await {
        Ok(Ok(bytes)) => attachment("profile", bytes),
        Ok(Err(error)) => refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("Could not enable CPU profiling: {error}"),
        ),
        Err(_) => panicked(),
    }
}

/// What is read of the system: on a thread for it, there may be thousands of areas or threads.
async fn read(look: impl FnOnce() -> Response<Body> + Send + 'static) -> Response<Body> {
    threads::spawn_blocking(look)
        .await
        .unwrap_or_else(|_| panicked())
}

fn plain(text: String) -> Response<Body> {
    let mut answer = page(StatusCode::OK, PLAIN, text);
    no_sniffing(&mut answer);
    answer
}

fn attachment(name: &str, bytes: Vec<u8>) -> Response<Body> {
    let mut answer = page(StatusCode::OK, BYTES, bytes);
    no_sniffing(&mut answer);
    let disposition = format!("attachment; filename=\"{name}\"");
    let disposition = HeaderValue::try_from(disposition).expect("names are ASCII");
    answer
        .headers_mut()
        .insert(CONTENT_DISPOSITION, disposition);
    answer
}

fn refused(status: StatusCode, text: &str) -> Response<Body> {
    let mut answer = pages::error(status, text);
    answer
        .headers_mut()
        .insert(REFUSED, HeaderValue::from_static("1"));
    answer
}
