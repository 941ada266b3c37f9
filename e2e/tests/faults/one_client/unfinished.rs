//! Requests that are begun and not finished.

use std::time::Duration;

use engram_e2e::raw::Connection;
use tonic_prost::prost::bytes::{BufMut as _, BytesMut};

use super::Scene;
use crate::case;
use crate::ci_or_full;

const COUNT: usize = 1_000;
const ON_A_CONNECTION: usize = 10;
/// What a request says it has, and what comes of it. Below what a server takes (1.5 MiB and some).
const TOLD: u32 = 1_800_000;
const SENT: usize = 1_700_000;
const HELD: Duration = Duration::from_secs(5);
const HELD_LONG: Duration = Duration::from_secs(20);

#[test]
fn requests_of_2_mb_that_never_end() {
    let case = case::begin("1000 unfinished requests of 2 MB");
    let scene = Scene::begin();
    let address = scene.server.address();
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(TOLD);
    body.put_bytes(0, SENT);
    let body = body.freeze();
    let beside = scene.beside(async {
        let mut held = Vec::new();
        for _ in 0..COUNT / ON_A_CONNECTION {
            let connection = Connection::open(address, false).await;
            let Ok(connection) = connection else { continue };
            for _ in 0..ON_A_CONNECTION {
                let call = connection
                    .begin("/etcdserverpb.KV/Put", &[], body.clone(), false)
                    .await;
                held.extend(call.ok());
            }
        }
        tokio::time::sleep(ci_or_full(HELD, HELD_LONG)).await;
        held.len()
    });
    let begun = scene.judge(&case, beside);
    case.saw(format!("{begun} of {COUNT} were begun"));
}
