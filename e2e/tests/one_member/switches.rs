//! What calls cost in wakes of the server's threads. Times say little on a busy machine; how often a thread
//! has to sleep until another wakes it is the same on all of them, and one more wake a call is ten to twenty
//! microseconds that everybody waits. (Instructions would say more; virtual machines mostly do not count them.)

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use engram_e2e::client::Client;
use engram_e2e::server::{Server, Setup};
use engram_e2e::{switches, turn};
use engram_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, WatchCreateRequest, WatchResponse,
};
use tokio::sync::mpsc::{self, Receiver};
use tonic::Streaming;
use tonic::codegen::tokio_stream::Stream;

/// Calls of a trial.
const CALLS: u32 = 1_000;
/// Calls before them, which are not counted.
const WARM_UP: u32 = 100;
/// Trials of a call; the one with the fewest counts: others on the machine can only add to it.
const TRIALS: usize = 3;
/// How long the idle server is looked at: what it does by itself is not a call's.
const IDLE: Duration = Duration::from_secs(1);
/// Streams that see a put, all on one connection.
const STREAMS: usize = 10;
/// How much more than what is committed here fails.
const MORE: f64 = 1.10;
/// And this beside it: a busy machine has a thread sleep now and then where it would not. One more wake a call is one.
const NOISE: f64 = 0.3;

/// What each call may cost: voluntary context switches of all of the server's threads together, as they were
/// counted when this was committed. Lower them with whatever lowers the count.
const PUT: f64 = 6.2;
const GET: f64 = 1.0;
const EVENT: f64 = 6.7;
const KEEPALIVE: f64 = 1.0;

#[test]
fn a_call_wakes_no_more_threads_than_it_did() {
    let _turn = turn::take("switches");
    let server = Setup::engram().start();
    // One thread: what the client does between two calls is the same each time.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    let told = runtime.block_on(count(&server));
    let mut grown = Vec::new();
    for (name, counted, committed) in told {
        println!("   {name}: {counted:.2} switches a call, {committed:.2} committed");
        if counted > committed * MORE + NOISE {
            grown.push(name);
        }
    }
    assert!(
        grown.is_empty(),
        "more switches a call than {MORE} × what is committed and {NOISE}: {grown:?}; see above"
    );
}

type Told = Vec<(&'static str, f64, f64)>;

async fn count(server: &Server) -> Told {
    let mut told = Told::new();
    let client = Client::connect(server.address()).await;
    let counter = Counter::of(server).await;

    let mut put = client.clone();
    let counted = counter
        .fewest(async || put.put("key", "value").await.map(drop).expect("a put"))
        .await;
    told.push(("put", counted, PUT));

    let mut get = client.clone();
    let counted = counter
        .fewest(async || get.get("key", 0).await.map(drop).expect("a get"))
        .await;
    told.push(("get, linearizable", counted, GET));

    let (sender, requests) = mpsc::channel(1);
    let grant = LeaseGrantRequest { ttl: 3600, id: 1 };
    let mut lease = client.lease.clone();
    lease.lease_grant(grant).await.expect("a lease");
    let request = LeaseKeepAliveRequest { id: 1 };
    sender.send(request).await.expect("room for one");
    let answers = lease.lease_keep_alive(Requests(requests)).await;
    let mut answers = answers.expect("a stream").into_inner();
    answers.message().await.expect("an answer");
    let counted = counter
        .fewest(async || {
            sender.send(request).await.expect("room for one");
            let answer = answers.message().await.expect("an answer");
            assert_eq!(answer.expect("an answer").ttl, 3600);
        })
        .await;
    told.push(("lease keepalive", counted, KEEPALIVE));

    let mut watching = Vec::new();
    for _ in 0..STREAMS {
        watching.push(watch(&client).await);
    }
    let mut put = client.clone();
    let counted = counter
        .fewest(async || {
            let revision = put.put("key", "value").await.expect("a put");
            for stream in &mut watching {
                let response = stream.message().await.expect("an event");
                let events = response.expect("an event").events;
                let kv = events[0].kv.as_ref().expect("a put has a key");
                assert_eq!((events.len(), kv.mod_revision), (1, revision));
            }
        })
        .await;
    told.push(("put that ten streams of a connection see", counted, EVENT));
    told
}

/// Requests of one stream, sent one at a time.
struct Requests(Receiver<LeaseKeepAliveRequest>);

impl Stream for Requests {
    type Item = LeaseKeepAliveRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// A stream with a watcher of the key, created.
async fn watch(client: &Client) -> Streaming<WatchResponse> {
    let create = WatchCreateRequest {
        key: b"key".to_vec().into(),
        ..WatchCreateRequest::default()
    };
    let mut stream = client.clone().watch_range(create).await.expect("a stream");
    let created = stream.message().await.expect("an answer");
    assert!(created.expect("an answer").created);
    stream
}

/// Counts what calls one after the other cost a server.
struct Counter {
    pid: u32,
    /// Switches a second that the server makes by itself.
    idle: f64,
}

impl Counter {
    async fn of(server: &Server) -> Self {
        let pid = server.pid();
        let before = switches::voluntary(pid);
        let started = Instant::now();
        tokio::time::sleep(IDLE).await;
        let made = switches::voluntary(pid) - before;
        let idle = made as f64 / started.elapsed().as_secs_f64();
        println!("   idle: {idle:.0} switches a second");
        Self { pid, idle }
    }

    /// Switches a call, in the trial that had the fewest.
    async fn fewest(&self, mut call: impl AsyncFnMut()) -> f64 {
        for _ in 0..WARM_UP {
            call().await;
        }
        let mut fewest = f64::INFINITY;
        for _ in 0..TRIALS {
            let before = switches::voluntary(self.pid);
            let started = Instant::now();
            for _ in 0..CALLS {
                call().await;
            }
            let made = (switches::voluntary(self.pid) - before) as f64;
            let own = self.idle * started.elapsed().as_secs_f64();
            fewest = fewest.min((made - own) / f64::from(CALLS));
        }
        fewest
    }
}
