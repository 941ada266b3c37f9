"""How Patroni and APISIX use etcd: its JSON gateway, with authentication on. No package is needed.

The address is the argument; a line is an answer, the same at any server.
"""

import base64
import http.client
import json
import queue
import sys
import threading

HOST, PORT = sys.argv[1].rsplit(":", 1)


def b64(text):
    return base64.b64encode(text.encode()).decode()


def text(encoded):
    return base64.b64decode(encoded or "").decode()


def after(prefix):
    """The end of the range of what begins so."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


class Api:
    """What both do: POST a message, with the token in the header Authorization."""

    def __init__(self, user=None, password=None):
        self.token = None
        if user:
            self.token = self.call("auth/authenticate", name=user, password=password)["token"]

    def open(self, path, message):
        connection = http.client.HTTPConnection(HOST, int(PORT), timeout=10)
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = self.token
        connection.request("POST", "/v3/" + path, json.dumps(message), headers)
        return connection.getresponse()

    def call(self, path, **message):
        response = self.open(path, message)
        answer = json.loads(response.read())
        if response.status != 200:
            return {"refused": (response.status, answer.get("code"), answer.get("message") or answer.get("error"))}
        return answer

    def watch(self, key, end, revision):
        """Events as they come, from a thread that reads the stream line by line."""
        create = {"key": b64(key), "range_end": b64(end), "start_revision": revision, "prev_kv": True, "progress_notify": True}
        response = self.open("watch", {"create_request": create})
        events = queue.Queue()

        def read():
            for line in response:
                result = json.loads(line).get("result", {})
                for event in result.get("events", []):
                    kv = event["kv"]
                    events.put((event.get("type", "PUT"), text(kv["key"]), text(kv.get("value")), int(kv["mod_revision"])))

        threading.Thread(target=read, daemon=True).start()
        return events


def version():
    connection = http.client.HTTPConnection(HOST, int(PORT), timeout=10)
    connection.request("GET", "/version")
    told = json.loads(connection.getresponse().read())
    print("version", told["etcdserver"], told["etcdcluster"])


def users():
    api = Api()
    for user in ["root", "patroni", "apisix"]:
        api.call("auth/user/add", name=user, password="pw")
        api.call("auth/role/add", name=user)
        api.call("auth/user/grant", user=user, role=user)
    for role, prefix in [("patroni", "/service/"), ("apisix", "/apisix/")]:
        perm = {"permType": "READWRITE", "key": b64(prefix), "range_end": b64(after(prefix))}
        api.call("auth/role/grant", name=role, perm=perm)
    api.call("auth/enable")
    print("nobody", api.call("kv/range", key=b64("/service/a"))["refused"])
    print("another's", Api("apisix", "pw").call("kv/range", key=b64("/service/a"))["refused"])
    print("who is that", Api().call("auth/authenticate", name="apisix", password="no")["refused"])


def patroni():
    first, second = Api("patroni", "pw"), Api("patroni", "pw")
    root = "/service/batman/"
    print("members", len(first.call("cluster/member/list")["members"]))
    leases = [api.call("lease/grant", TTL=30)["ID"] for api in (first, second)]

    def put(api, key, value, lease, condition=None):
        request = {"key": b64(root + key), "value": b64(value), "lease": lease}
        if condition is None:
            return api.call("kv/put", **request)
        compare = dict(condition, key=b64(root + key), result="EQUAL")
        return api.call("kv/txn", compare=[compare], success=[{"request_put": request}])

    for name, api, lease in [("node1", first, leases[0]), ("node2", second, leases[1])]:
        put(api, "members/" + name, '{"state":"running"}', lease)
    absent = {"target": "CREATE", "create_revision": "0"}
    print("initialize", put(first, "initialize", "7", "0", absent).get("succeeded"), put(second, "initialize", "8", "0", absent).get("succeeded"))
    print("leader", put(first, "leader", "node1", leases[0], absent).get("succeeded"), put(second, "leader", "node2", leases[1], absent).get("succeeded"))

    read = first.call("kv/range", key=b64(root), range_end=b64(after(root)))
    for kv in read["kvs"]:
        print("read", text(kv["key"]), text(kv["value"]), kv["create_revision"], kv["version"], "lease" in kv)
    events = second.watch(root, after(root), str(int(read["header"]["revision"]) + 1))

    # The leader goes on: its lease is kept, its status written, its configuration compared and set.
    print("keepalive", first.call("lease/keepalive", ID=leases[0])["result"]["TTL"])
    put(first, "status", '{"optime":100}', "0")
    put(first, "config", '{"ttl":30}', "0")
    config = first.call("kv/range", key=b64(root + "config"))["kvs"][0]["mod_revision"]
    same = {"target": "MOD", "mod_revision": config}
    print("config", put(first, "config", '{"ttl":20}', "0", same).get("succeeded"), put(first, "config", "{}", "0", same).get("succeeded"))
    # It steps down: the key goes if it is still its own; then the other takes it.
    compare = {"key": b64(root + "leader"), "result": "EQUAL", "target": "VALUE", "value": b64("node1")}
    delete = {"request_delete_range": {"key": b64(root + "leader")}}
    print("stepped down", first.call("kv/txn", compare=[compare], success=[delete])["succeeded"])
    print("leader", put(second, "leader", "node2", leases[1], absent)["succeeded"])
    # The first one dies: what hung on its lease goes.
    first.call("lease/revoke", ID=leases[0])
    print("gone", first.call("lease/keepalive", ID=leases[0])["result"].get("TTL", "0"))
    for _ in range(6):
        print("event", *events.get(timeout=10))


def apisix():
    api = Api("apisix", "pw")
    for number in range(3):
        route = json.dumps({"uri": f"/{number}"})
        api.call("kv/put", key=b64(f"/apisix/routes/{number}"), value=b64(route))
    read = api.call("kv/range", key=b64("/apisix/routes"), range_end=b64(after("/apisix/routes")))
    print("routes", read["count"], [text(kv["key"]) for kv in read["kvs"]])
    empty = api.call("kv/range", key=b64("/apisix/none/"), range_end=b64(after("/apisix/none/")))
    print("none", "kvs" in empty, empty.get("count", "0"))
    events = api.watch("/apisix/", after("/apisix/"), str(int(read["header"]["revision"]) + 1))
    api.call("kv/put", key=b64("/apisix/routes/1"), value=b64("{}"))
    lease = api.call("lease/grant", TTL=60)["ID"]
    api.call("kv/put", key=b64("/apisix/data_plane/server_info/x"), value=b64("{}"), lease=lease)
    api.call("kv/deleterange", key=b64("/apisix/routes/0"), prev_kv=True)
    for _ in range(3):
        print("event", *events.get(timeout=10))
    print("bad", api.call("kv/range", key="no base64!")["refused"][:2])


version()
users()
patroni()
apisix()
print("done")
