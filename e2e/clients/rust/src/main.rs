//! What a program does through the crate etcd-client: key-values, a transaction, a watch, a lease, a
//! lock, an election, users. The address is the argument; a line is an answer, the same at any server.

use std::time::Duration;

use etcd_client::{
    AuthClient, Client, Compare, CompareOp, ConnectOptions, DeleteOptions, Error, GetOptions,
    LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions, Permission, PutOptions, Txn, TxnOp,
    WatchOptions,
};

type Done = Result<(), Error>;

fn refusal<T>(answer: Result<T, Error>) -> String {
    match answer {
        Ok(_) => "let through".to_owned(),
        Err(Error::GRpcStatus(status)) => format!("{:?} {}", status.code(), status.message()),
        Err(error) => error.to_string(),
    }
}

#[tokio::main]
async fn main() -> Done {
    let address = std::env::args().nth(1).expect("an address");
    let mut client = Client::connect([&address], None).await?;
    keys(&mut client).await?;
    watch(&mut client).await?;
    leases(&mut client).await?;
    locks(&mut client).await?;
    users(&mut client, &address).await?;
    println!("done");
    Ok(())
}

async fn keys(client: &mut Client) -> Done {
    client.put("a", "1", None).await?;
    let put = client.put("a", "2", Some(PutOptions::new().with_prev_key())).await?;
    println!("previous {:?}", put.prev_key().map(|kv| kv.value_str().map(str::to_owned)));
    client.put("b", "3", None).await?;
    let got = client.get("a", Some(GetOptions::new().with_range("c"))).await?;
    for kv in got.kvs() {
        println!("got {} {} {} {}", kv.key_str()?, kv.value_str()?, kv.mod_revision(), kv.version());
    }
    let txn = Txn::new()
        .when([Compare::value("a", CompareOp::Equal, "2")])
        .and_then([TxnOp::put("t", "x", None), TxnOp::get("a", None)])
        .or_else([TxnOp::get("b", None)]);
    let txn = client.txn(txn).await?;
    println!("txn {} {}", txn.succeeded(), txn.op_responses().len());
    let deleted = client.delete("a", Some(DeleteOptions::new().with_prev_key())).await?;
    println!("deleted {} {}", deleted.deleted(), deleted.prev_kvs()[0].value_str()?);
    client.compact(5, None).await?;
    let past = client.get("b", Some(GetOptions::new().with_revision(2))).await;
    println!("compacted: {}", refusal(past));
    Ok(())
}

async fn watch(client: &mut Client) -> Done {
    let mut stream = client.watch("w", Some(WatchOptions::new().with_prefix())).await?;
    client.put("w1", "x", None).await?;
    client.delete("w1", None).await?;
    let mut seen = 0;
    while seen < 2 {
        let Some(response) = stream.message().await? else { break };
        for event in response.events() {
            let kv = event.kv().expect("an event is of a key");
            println!("event {:?} {} {}", event.event_type(), kv.key_str()?, kv.mod_revision());
            seen += 1;
        }
    }
    stream.cancel(0).await?;
    Ok(())
}

async fn leases(client: &mut Client) -> Done {
    let lease = client.lease_grant(60, Some(LeaseGrantOptions::new())).await?.id();
    client.put("leased", "x", Some(PutOptions::new().with_lease(lease))).await?;
    let (mut keeper, mut kept) = client.lease_keep_alive(lease).await?;
    keeper.keep_alive().await?;
    println!("kept alive {:?}", kept.message().await?.map(|response| response.ttl()));
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let told = client.lease_time_to_live(lease, Some(options)).await?;
    println!("lease {} {}", told.granted_ttl(), told.keys().len());
    client.lease_revoke(lease).await?;
    println!("after it {}", client.get("leased", None).await?.count());
    println!("again: {}", refusal(client.lease_revoke(lease).await));
    Ok(())
}

async fn locks(client: &mut Client) -> Done {
    let first = client.lease_grant(60, None).await?.id();
    let second = client.lease_grant(60, None).await?.id();
    let held = client.lock("lock", Some(LockOptions::new().with_lease(first))).await?;
    let mut other = client.clone();
    let waits = tokio::spawn(async move {
        other.lock("lock", Some(LockOptions::new().with_lease(second))).await
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    println!("waits {}", !waits.is_finished());
    client.unlock(held.key()).await?;
    let held = waits.await.expect("a lock")?;
    client.unlock(held.key()).await?;
    let campaign = client.campaign("election", "me", first).await?;
    let leader = client.leader("election").await?;
    println!("leader {:?}", leader.kv().map(|kv| kv.value_str().map(str::to_owned)));
    let leader = campaign.leader().cloned().expect("a leader");
    client.resign(Some(etcd_client::ResignOptions::new().with_leader(leader))).await?;
    Ok(())
}

async fn users(client: &mut Client, address: &str) -> Done {
    let mut auth: AuthClient = client.auth_client();
    auth.user_add("root", "pw", None).await?;
    auth.user_grant_role("root", "root").await?;
    auth.role_add("r").await?;
    auth.role_grant_permission("r", Permission::read_write("a")).await?;
    auth.user_add("alice", "pw", None).await?;
    auth.user_grant_role("alice", "r").await?;
    auth.auth_enable().await?;
    println!("nobody: {}", refusal(client.put("a", "x", None).await));
    let as_user = async |name: &str, password: &str| {
        let options = ConnectOptions::new().with_user(name, password);
        Client::connect([address], Some(options)).await
    };
    let mut alice = as_user("alice", "pw").await?;
    alice.put("a", "x", None).await?;
    println!("not hers: {}", refusal(alice.put("z", "x", None).await));
    println!("who is that: {}", refusal(as_user("alice", "no").await));
    let mut root = as_user("root", "pw").await?;
    println!("users {:?}", root.user_list().await?.users());
    root.auth_disable().await?;
    Ok(())
}
