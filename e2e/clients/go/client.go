// What a program does through etcd's Go client: key-values, a transaction, a watch, a lease, a lock,
// an election, users. The address is the argument; a line is an answer, the same at any server.
//
// build.sh compiles it with each release of the client, of which those before 3.5 have other paths.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func connect(name, password string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{os.Args[1]},
		DialTimeout: 5 * time.Second,
		Username:    name,
		Password:    password,
	})
	must(err)
	return client
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	client := connect("", "")
	defer client.Close()
	keys(ctx, client)
	watch(ctx, client)
	leases(ctx, client)
	locks(ctx, client)
	vitess(ctx, client)
	users(ctx, client)
}

func keys(ctx context.Context, client *clientv3.Client) {
	put, err := client.Put(ctx, "a", "1")
	must(err)
	fmt.Println("put", put.Header.Revision)
	put, err = client.Put(ctx, "a", "2", clientv3.WithPrevKV())
	must(err)
	fmt.Println("previous", string(put.PrevKv.Value))
	_, err = client.Put(ctx, "b", "3")
	must(err)
	got, err := client.Get(ctx, "a", clientv3.WithRange("c"), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	must(err)
	for _, kv := range got.Kvs {
		fmt.Println("got", string(kv.Key), string(kv.Value), kv.CreateRevision, kv.ModRevision, kv.Version)
	}
	then := []clientv3.Op{clientv3.OpPut("t", "x"), clientv3.OpGet("a")}
	txn, err := client.Txn(ctx).If(clientv3.Compare(clientv3.Value("a"), "=", "2")).Then(then...).Else(clientv3.OpGet("b")).Commit()
	must(err)
	fmt.Println("txn", txn.Succeeded, len(txn.Responses), txn.Header.Revision)
	deleted, err := client.Delete(ctx, "a", clientv3.WithPrevKV())
	must(err)
	fmt.Println("deleted", deleted.Deleted, string(deleted.PrevKvs[0].Value))
	_, err = client.Compact(ctx, deleted.Header.Revision)
	must(err)
	_, err = client.Get(ctx, "b", clientv3.WithRev(2))
	fmt.Println("compacted:", err)
	_, err = client.Put(ctx, "", "x")
	fmt.Println("no key:", err)
}

func watch(ctx context.Context, client *clientv3.Client) {
	watched := client.Watch(ctx, "w", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	fmt.Println("created", (<-watched).Created)
	_, err := client.Put(ctx, "w1", "x")
	must(err)
	_, err = client.Delete(ctx, "w1")
	must(err)
	for seen := 0; seen < 2; {
		for _, event := range (<-watched).Events {
			seen++
			fmt.Println("event", event.Type, string(event.Kv.Key), string(event.Kv.Value), event.Kv.ModRevision)
		}
	}
	compacted := <-client.Watch(ctx, "w", clientv3.WithRev(1))
	fmt.Println("watch of the past:", compacted.Err(), compacted.CompactRevision)
}

func leases(ctx context.Context, client *clientv3.Client) {
	granted, err := client.Grant(ctx, 60)
	must(err)
	_, err = client.Put(ctx, "leased", "x", clientv3.WithLease(granted.ID))
	must(err)
	kept, err := client.KeepAlive(ctx, granted.ID)
	must(err)
	fmt.Println("kept alive", (<-kept).TTL)
	told, err := client.TimeToLive(ctx, granted.ID, clientv3.WithAttachedKeys())
	must(err)
	fmt.Println("lease", told.GrantedTTL, len(told.Keys), string(told.Keys[0]))
	_, err = client.Revoke(ctx, granted.ID)
	must(err)
	got, err := client.Get(ctx, "leased")
	must(err)
	fmt.Println("after it", got.Count)
	_, err = client.Revoke(ctx, granted.ID)
	fmt.Println("again:", err)
}

func locks(ctx context.Context, client *clientv3.Client) {
	first, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	must(err)
	second, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	must(err)
	held, waits := concurrency.NewMutex(first, "lock"), concurrency.NewMutex(second, "lock")
	must(held.Lock(ctx))
	got := make(chan error)
	go func() { got <- waits.Lock(ctx) }()
	select {
	case <-got:
		panic("two hold one lock")
	case <-time.After(200 * time.Millisecond):
	}
	must(held.Unlock(ctx))
	must(<-got)
	fmt.Println("locked by one after the other")
	must(waits.Unlock(ctx))
	election := concurrency.NewElection(first, "election")
	must(election.Campaign(ctx, "me"))
	leader, err := election.Leader(ctx)
	must(err)
	fmt.Println("leader", string(leader.Kvs[0].Value))
	must(election.Resign(ctx))
	must(first.Close())
	must(second.Close())
}

// vitess plays the topology server of Vitess (go/vt/topo/etcd2topo): files with versions, a directory that
// is listed, a lock that is a leased file with the lowest revision below a directory, a watch from a read.
func vitess(ctx context.Context, client *clientv3.Client) {
	file := "/vitess/global/keyspaces/commerce/Keyspace"
	absent := clientv3.Compare(clientv3.Version(file), "=", 0)
	made, err := client.Txn(ctx).If(absent).Then(clientv3.OpPut(file, "1")).Commit()
	must(err)
	again, err := client.Txn(ctx).If(absent).Then(clientv3.OpPut(file, "2")).Commit()
	must(err)
	read, err := client.Get(ctx, file)
	must(err)
	fmt.Println("file", made.Succeeded, again.Succeeded, read.Kvs[0].ModRevision == made.Header.Revision)
	watched := client.Watch(ctx, file, clientv3.WithRev(read.Header.Revision+1))
	same := clientv3.Compare(clientv3.ModRevision(file), "=", read.Kvs[0].ModRevision)
	changed, err := client.Txn(ctx).If(same).Then(clientv3.OpPut(file, "3")).Else(clientv3.OpGet(file)).Commit()
	must(err)
	event := (<-watched).Events[0]
	fmt.Println("changed", changed.Succeeded, string(event.Kv.Value), event.IsModify())
	listed, err := client.Get(ctx, "/vitess/global/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend), clientv3.WithKeysOnly())
	must(err)
	fmt.Println("listed", len(listed.Kvs), len(listed.Kvs[0].Value))

	lock := func(name string) (string, clientv3.LeaseID, int64) {
		lease, err := client.Grant(ctx, 30)
		must(err)
		key := "/vitess/global/keyspaces/commerce/locks/" + name
		put, err := client.Txn(ctx).If(clientv3.Compare(clientv3.Version(key), "=", 0)).
			Then(clientv3.OpPut(key, "who locks", clientv3.WithLease(lease.ID))).Commit()
		must(err)
		return key, lease.ID, put.Header.Revision
	}
	_, lease, _ := lock("a")
	second, _, revision := lock("b")
	oldest := append(clientv3.WithLastCreate(), clientv3.WithMaxModRev(revision-1))
	before, err := client.Get(ctx, "/vitess/global/keyspaces/commerce/locks/", oldest...)
	must(err)
	gone := client.Watch(ctx, string(before.Kvs[0].Key), clientv3.WithRev(revision+1))
	_, err = client.Revoke(ctx, lease)
	must(err)
	fmt.Println("lock", string(before.Kvs[0].Key), (<-gone).Events[0].Type)
	deleted, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(second), "=", revision)).Then(clientv3.OpDelete(second)).Commit()
	must(err)
	fmt.Println("unlocked", deleted.Succeeded)
}

func users(ctx context.Context, client *clientv3.Client) {
	_, err := client.UserAdd(ctx, "root", "pw")
	must(err)
	_, err = client.UserGrantRole(ctx, "root", "root")
	must(err)
	_, err = client.RoleAdd(ctx, "r")
	must(err)
	_, err = client.RoleGrantPermission(ctx, "r", "a", "b", clientv3.PermissionType(clientv3.PermReadWrite))
	must(err)
	_, err = client.UserAdd(ctx, "alice", "pw")
	must(err)
	_, err = client.UserGrantRole(ctx, "alice", "r")
	must(err)
	_, err = client.AuthEnable(ctx)
	must(err)
	_, err = client.Put(ctx, "a", "x")
	fmt.Println("nobody:", err)
	alice := connect("alice", "pw")
	defer alice.Close()
	_, err = alice.Put(ctx, "a", "x")
	must(err)
	_, err = alice.Put(ctx, "z", "x")
	fmt.Println("not hers:", err)
	// As CoreDNS asks with a user and a password: everything below a name.
	names, err := alice.Get(ctx, "a/skydns/com/example", clientv3.WithPrefix())
	must(err)
	fmt.Println("names", names.Count)
	_, err = clientv3.New(clientv3.Config{
		Endpoints: []string{os.Args[1]}, DialTimeout: 5 * time.Second, Username: "alice", Password: "no",
	})
	fmt.Println("who is that:", err)
	root := connect("root", "pw")
	defer root.Close()
	listed, err := root.UserList(ctx)
	must(err)
	fmt.Println("users", listed.Users)
	_, err = root.AuthDisable(ctx)
	must(err)
	_, err = client.Put(ctx, "z", "x")
	must(err)
	fmt.Println("done")
}
