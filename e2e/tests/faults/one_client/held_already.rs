//! What the server bore already, kept so: resets, slow headers, bombs, many watches and leases.
//! (Garbage, half prefaces and CONTINUATION without end: `one_member/bad_input`.)

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use engram_e2e::client::Client;
use engram_e2e::http2::{
    END_HEADERS, END_STREAM, PREFACE, frame, frame_type, grpc_fields, header_block,
};
use engram_e2e::raw::Connection;
use engram_proto::etcdserverpb::{
    LeaseGrantRequest, WatchCreateRequest, WatchRequest, watch_request,
};
use tonic::codegen::tokio_stream;
use tonic_prost::prost::bytes::Bytes;

use super::Scene;
use crate::case;
use crate::ci_or_full;

const RST_STREAM: u8 = 3;
/// How long the client goes on with it.
const TIME: Duration = Duration::from_secs(2);

#[test]
fn streams_that_are_reset_at_once() {
    let case = case::begin("rapid resets");
    let scene = Scene::with(1_000, 1_024 * super::MIB);
    let address = scene.server.address();
    let beside = scene.beside(async {
        let flooder = tokio::task::spawn_blocking(move || {
            let block = header_block(&grpc_fields("/etcdserverpb.KV/Range", &[]));
            let (mut sent, mut connections) = (0, 0);
            let began = Instant::now();
            while began.elapsed() < TIME {
                connections += 1;
                let mut connection = TcpStream::connect(address).expect("a connection");
                let settings = frame(frame_type::SETTINGS, 0, 0, &[]);
                let mut bytes = [PREFACE, &settings].concat();
                for number in 0..5_000_u32 {
                    let stream = 2 * number + 1;
                    bytes.extend(frame(frame_type::HEADERS, END_HEADERS, stream, &block));
                    bytes.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
                }
                // The server may hang up in the middle: that is an answer.
                let limit = Some(Duration::from_secs(2));
                connection
                    .set_write_timeout(limit)
                    .expect("a timeout can be set");
                sent += usize::from(connection.write_all(&bytes).is_ok());
            }
            (sent, connections)
        });
        flooder.await.expect("no panic")
    });
    let (sent, connections) = scene.judge(&case, beside);
    case.saw(format!(
        "{sent} of {connections} connections took 5,000 resets each"
    ));
}

#[test]
fn headers_that_come_a_byte_at_a_time() {
    let case = case::begin("slow headers on 500 connections");
    let scene = Scene::with(1_000, 1_024 * super::MIB);
    let address = scene.server.address();
    let beside = scene.beside(async {
        let flooder = tokio::task::spawn_blocking(move || {
            let settings = frame(frame_type::SETTINGS, 0, 0, &[]);
            let block = header_block(&grpc_fields("/etcdserverpb.KV/Range", &[]));
            let head = frame(frame_type::HEADERS, END_HEADERS | END_STREAM, 1, &block);
            let mut slow: Vec<TcpStream> = (0..500)
                .map(|_| {
                    let mut connection = TcpStream::connect(address).expect("a connection");
                    let begin = [PREFACE, &settings].concat();
                    connection.write_all(&begin).expect("the beginning is sent");
                    connection
                })
                .collect();
            for byte in &head[..20] {
                for connection in &mut slow {
                    // It may be ended by now.
                    let _ = connection.write_all(&[*byte]);
                }
                std::thread::sleep(Duration::from_millis(150));
            }
        });
        flooder.await.expect("no panic");
    });
    scene.judge(&case, beside);
}

#[test]
fn a_compressed_message_that_grows_without_bound() {
    let case = case::begin("gzip bomb");
    let scene = Scene::with(1_000, 1_024 * super::MIB);
    let address = scene.server.address();
    let bomb = gzip_of_zeros(2_000);
    let mut body = vec![1];
    body.extend(u32::try_from(bomb.len()).expect("small").to_be_bytes());
    body.extend(bomb);
    let body = Bytes::from(body);
    let headers = [("grpc-encoding", "gzip".to_owned())];
    let beside = scene.beside(async {
        let mut ends = Vec::new();
        let began = Instant::now();
        while began.elapsed() < TIME {
            let connection = Connection::open(address, true).await.expect("a connection");
            let path = "/etcdserverpb.KV/Put";
            let call = connection.begin(path, &headers, body.clone(), true).await;
            // Refused before the body was sent, or after it.
            if let Ok(call) = call {
                ends.push(call.read_to_the_end().await);
            }
        }
        ends.dedup();
        ends
    });
    let ends = scene.judge(&case, beside);
    case.saw(format!("{ends:?}"));
    assert!(ends.iter().all(|end| end.status != "0"), "{ends:?}");
}

/// `mib` MiB of zeros as gzip: a block of deflate repeats one literal as far as deflate can, 258 bytes
/// for two bits, so 1,032 to 1.
fn gzip_of_zeros(mib: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    // The last block, with fixed codes; a literal 0, then copies of length 258 at distance 1.
    bits.push(1, 1);
    bits.push(1, 2);
    bits.push_code(0b0011_0000, 8);
    for _ in 0..(mib << 20) / 258 {
        bits.push_code(0b1100_0101, 8);
        bits.push_code(0, 5);
    }
    bits.push_code(0, 7);
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    gzip.extend(bits.end());
    // Checksum and length, wrong both: nobody should come so far.
    gzip.extend([0; 8]);
    gzip
}

/// Deflate's order of bits.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    last: u8,
    used: u32,
}

impl Bits {
    /// A number, its lowest bit first.
    fn push(&mut self, number: u32, count: u32) {
        for place in 0..count {
            self.bit(number >> place & 1 == 1);
        }
    }

    /// A Huffman code, its highest bit first.
    fn push_code(&mut self, code: u32, count: u32) {
        for place in (0..count).rev() {
            self.bit(code >> place & 1 == 1);
        }
    }

    fn bit(&mut self, is_one: bool) {
        self.last |= u8::from(is_one) << self.used;
        self.used += 1;
        if self.used == 8 {
            self.bytes.push(self.last);
            (self.last, self.used) = (0, 0);
        }
    }

    fn end(mut self) -> Vec<u8> {
        if self.used > 0 {
            self.bytes.push(self.last);
        }
        self.bytes
    }
}

#[test]
fn many_watches_on_one_stream() {
    let case = case::begin("100,000 watches on one stream");
    let count = ci_or_full(20_000, 100_000);
    let scene = Scene::with(1_000, 1_024 * super::MIB);
    let address = scene.server.address();
    let beside = scene.beside(async {
        let mut client = Client::connect(address).await;
        let creates = (0..count).map(|number: usize| WatchRequest {
            request_union: Some(watch_request::RequestUnion::CreateRequest(
                WatchCreateRequest {
                    key: format!("watched/{number}").into(),
                    ..WatchCreateRequest::default()
                },
            )),
        });
        let creates: Vec<WatchRequest> = creates.collect();
        let requests = tokio_stream::StreamExt::chain(
            tokio_stream::iter(creates),
            tokio_stream::pending::<WatchRequest>(),
        );
        let mut answers = client
            .watch
            .watch(requests)
            .await
            .expect("a stream")
            .into_inner();
        let mut created = 0;
        while created < count {
            match answers.message().await {
                Ok(Some(answer)) => created += usize::from(answer.created),
                _ => break,
            }
        }
        tokio::time::sleep(TIME).await;
        created
    });
    let created = scene.judge(&case, beside);
    case.saw(format!("{created} of {count} were created"));
    assert_eq!(created, count);
}

#[test]
fn many_leases() {
    let case = case::begin("100,000 leases");
    let count = ci_or_full(10_000, 100_000);
    let scene = Scene::with(1_000, 1_024 * super::MIB);
    let address = scene.server.address();
    let beside = scene.beside(async {
        let granters = (0..4).map(|first: i64| {
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                for number in (first..count).step_by(4) {
                    let request = LeaseGrantRequest {
                        ttl: 3_600,
                        id: number + 1,
                    };
                    client.lease.lease_grant(request).await.expect("a lease");
                }
            })
        });
        let granters: Vec<_> = granters.collect();
        for granter in granters {
            granter.await.expect("no panic");
        }
    });
    scene.judge_writer(&case, beside);
    let listed = scene.server.etcdctl(&["lease", "list"]).lines().count();
    case.saw(format!("{listed} lines of leases"));
    assert!(i64::try_from(listed).expect("few") > count - 1);
}
