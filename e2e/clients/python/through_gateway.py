"""What Python's etcd3gw does through the JSON gateway; the address is the argument, a line is an answer."""

import sys
import threading

from etcd3gw.client import Etcd3Client
from etcd3gw.lock import Lock

host, port = sys.argv[1].rsplit(":", 1)
client = Etcd3Client(host=host, port=int(port), api_path="/v3/")
print(client.status()["version"], client.members()[0]["name"])
print(client.put("a", "1"), client.get("a"), client.get("nothing"))
print(client.create("new", "x"), client.create("new", "y"), client.replace("new", "x", "z"))
for value, found in client.get_prefix("ne") + client.get_all():
    print(found["key"], found["version"], value)

lease = client.lease(ttl=60)
print(lease.ttl() > 50, lease.refresh(), client.put("leased", "v", lease=lease))
print(lease.keys(), lease.revoke(), client.get("leased"))

events, cancel = client.watch("watched")
threading.Timer(0.3, client.put, ("watched", "1")).start()
for event in events:
    print(event["kv"]["key"], event["kv"]["value"])
    cancel()
    break

with Lock("lock", ttl=10, client=client) as lock:
    print(lock.is_acquired())
is_z = {"key": "bmV3", "result": "EQUAL", "target": "VALUE", "value": "eg=="}
put = {"request_put": {"key": "bmV3", "value": "MQ=="}}
print(client.transaction({"compare": [is_z], "success": [put], "failure": []}).get("succeeded"))
print(client.delete("a"), client.delete("a"))
