"""What a program does through Python's etcd3: key-values, a transaction, a watch, a lease, a lock,
users. The address is the argument; a line is an answer, the same at any server."""

import sys

import etcd3
import grpc
from etcd3.etcdrpc import rpc_pb2, rpc_pb2_grpc

host, port = sys.argv[1].rsplit(":", 1)
client = etcd3.client(host=host, port=int(port), timeout=10)

client.put("a", "1")
client.put("b", "2", prev_kv=True)
value, found = client.get("a")
print("got", value, found.key, found.create_revision, found.mod_revision, found.version)
print("prefix", [(value, found.key) for value, found in client.get_range("a", "c", sort_order="descend")])
print("nothing", client.get("nothing"))
done, answers = client.transaction(
    compare=[client.transactions.value("a") == "1", client.transactions.version("no") == 0],
    success=[client.transactions.put("t", "x"), client.transactions.get("a")],
    failure=[client.transactions.delete("a")],
)
print("txn", done, len(answers))
print("replaced", client.replace("a", "1", "2"), client.replace("a", "1", "3"), client.put_if_not_exists("a", "4"))

events, cancel = client.watch_prefix("w")
client.put("w1", "x")
client.delete("w1")
for _ in range(2):
    event = next(events)
    print("event", type(event).__name__, event.key, event.value, event.mod_revision)
cancel()

lease = client.lease(60)
client.put("leased", "x", lease=lease)
print("lease", lease.granted_ttl, lease.remaining_ttl > 50, lease.keys, lease.refresh()[0].TTL)
lease.revoke()
print("after it", client.get("leased"))

first, second = client.lock("lock", ttl=10), client.lock("lock", ttl=10)
print("lock", first.acquire(), second.acquire(timeout=1), first.is_acquired(), first.release())
print("lock", second.acquire(), second.release())
print("deleted", client.delete("a"), client.delete("a"), client.delete_prefix("b").deleted)
client.compact(5)
members = list(client.members)
print("members", len(members), members[0].name, client.status().leader.id == members[0].id)

auth = rpc_pb2_grpc.AuthStub(client.channel)
auth.UserAdd(rpc_pb2.AuthUserAddRequest(name="root", password="pw"))
auth.UserGrantRole(rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root"))
auth.UserAdd(rpc_pb2.AuthUserAddRequest(name="alice", password="pw"))
auth.AuthEnable(rpc_pb2.AuthEnableRequest())
try:
    client.get("a")
except grpc.RpcError as refused:
    print("nobody", refused.code().name, refused.details())


def as_user(name, password):
    """Over a connection without TLS today's grpc sends no credentials of a call: the token goes as etcd reads it."""
    answer = auth.Authenticate(rpc_pb2.AuthenticateRequest(name=name, password=password))
    user = etcd3.client(host=host, port=int(port), timeout=10)
    user.metadata = (("token", answer.token),)
    return user


root, alice = as_user("root", "pw"), as_user("alice", "pw")
root.put("a", "x")
print("root", root.get("a")[0])
for name, doing in [("alice", lambda: alice.get("a")), ("who is that", lambda: as_user("root", "no"))]:
    try:
        doing()
    except grpc.RpcError as refused:
        print(name, refused.code().name, refused.details())
rpc_pb2_grpc.AuthStub(root.channel).AuthDisable(rpc_pb2.AuthDisableRequest(), metadata=root.metadata)
client.put("a", "x")
print("done")
