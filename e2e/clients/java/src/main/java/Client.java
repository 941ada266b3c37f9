import io.etcd.jetcd.Auth;
import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.auth.Permission;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.support.Observers;
import io.etcd.jetcd.watch.WatchEvent;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

/**
 * What a program does through jetcd: key-values, a transaction, a watch, a lease, a lock, an election,
 * users. The address is the argument; a line is an answer, the same at any server.
 */
public final class Client {
  private static String endpoint;

  private static ByteSequence bytes(String text) {
    return ByteSequence.from(text, StandardCharsets.UTF_8);
  }

  private static <T> T get(CompletableFuture<T> future) throws Exception {
    return future.get(10, TimeUnit.SECONDS);
  }

  private static String refusal(CompletableFuture<?> future) throws Exception {
    try {
      get(future);
      return "let through";
    } catch (ExecutionException refused) {
      return refused.getCause().getMessage();
    }
  }

  private static io.etcd.jetcd.Client as(String user, String password) {
    return io.etcd.jetcd.Client.builder().endpoints(endpoint).user(bytes(user)).password(bytes(password)).build();
  }

  public static void main(String[] arguments) throws Exception {
    endpoint = "http://" + arguments[0];
    try (io.etcd.jetcd.Client client = io.etcd.jetcd.Client.builder().endpoints(endpoint).build()) {
      keys(client.getKVClient());
      watch(client);
      leases(client);
      locks(client);
      users(client);
    }
    System.out.println("done");
    System.exit(0);
  }

  private static void keys(KV kv) throws Exception {
    get(kv.put(bytes("a"), bytes("1")));
    var put = get(kv.put(bytes("a"), bytes("2"), PutOption.builder().withPrevKV().build()));
    System.out.println("previous " + put.getPrevKv().getValue() + " " + put.getHeader().getRevision());
    get(kv.put(bytes("b"), bytes("3")));
    var all = GetOption.builder().withRange(bytes("c")).build();
    for (var found : get(kv.get(bytes("a"), all)).getKvs()) {
      System.out.println("got " + found.getKey() + " " + found.getValue() + " " + found.getModRevision() + " " + found.getVersion());
    }
    var txn = kv.txn()
        .If(new Cmp(bytes("a"), Cmp.Op.EQUAL, CmpTarget.value(bytes("2"))))
        .Then(Op.put(bytes("t"), bytes("x"), PutOption.DEFAULT), Op.get(bytes("a"), GetOption.DEFAULT))
        .Else(Op.get(bytes("b"), GetOption.DEFAULT));
    var done = get(txn.commit());
    System.out.println("txn " + done.isSucceeded() + " " + done.getGetResponses().size() + " " + done.getHeader().getRevision());
    var deleted = get(kv.delete(bytes("a"), DeleteOption.builder().withPrevKV(true).build()));
    System.out.println("deleted " + deleted.getDeleted() + " " + deleted.getPrevKvs().get(0).getValue());
    get(kv.compact(deleted.getHeader().getRevision()));
    System.out.println("compacted: " + refusal(kv.get(bytes("b"), GetOption.builder().withRevision(2).build())));
  }

  private static void watch(io.etcd.jetcd.Client client) throws Exception {
    var both = new CountDownLatch(2);
    var option = WatchOption.builder().withRange(bytes("x")).build();
    Watch.Listener listener = Watch.listener(response -> {
      for (WatchEvent event : response.getEvents()) {
        System.out.println("event " + event.getEventType() + " " + event.getKeyValue().getKey() + " " + event.getKeyValue().getValue());
        both.countDown();
      }
    });
    try (Watch.Watcher watcher = client.getWatchClient().watch(bytes("w"), option, listener)) {
      Thread.sleep(300);
      get(client.getKVClient().put(bytes("w1"), bytes("x")));
      get(client.getKVClient().delete(bytes("w1")));
      System.out.println("both " + both.await(10, TimeUnit.SECONDS));
    }
  }

  private static void leases(io.etcd.jetcd.Client client) throws Exception {
    long lease = get(client.getLeaseClient().grant(60)).getID();
    get(client.getKVClient().put(bytes("leased"), bytes("x"), PutOption.builder().withLeaseId(lease).build()));
    var kept = new CompletableFuture<LeaseKeepAliveResponse>();
    try (var alive = client.getLeaseClient().keepAlive(lease, Observers.observer(kept::complete))) {
      System.out.println("kept alive " + get(kept).getTTL());
    }
    var told = get(client.getLeaseClient().timeToLive(lease, LeaseOption.builder().withAttachedKeys().build()));
    System.out.println("lease " + told.getGrantedTTL() + " " + told.getKeys());
    get(client.getLeaseClient().revoke(lease));
    System.out.println("after it " + get(client.getKVClient().get(bytes("leased"))).getCount());
  }

  private static void locks(io.etcd.jetcd.Client client) throws Exception {
    long first = get(client.getLeaseClient().grant(60)).getID();
    long second = get(client.getLeaseClient().grant(60)).getID();
    var lock = client.getLockClient();
    ByteSequence held = get(lock.lock(bytes("lock"), first)).getKey();
    var waits = lock.lock(bytes("lock"), second);
    Thread.sleep(200);
    System.out.println("waits " + !waits.isDone());
    get(lock.unlock(held));
    get(lock.unlock(get(waits).getKey()));
    var election = client.getElectionClient();
    var leader = get(election.campaign(bytes("election"), first, bytes("me"))).getLeader();
    System.out.println("leader " + get(election.leader(bytes("election"))).getKv().getValue());
    get(election.resign(leader));
  }

  private static void users(io.etcd.jetcd.Client client) throws Exception {
    Auth auth = client.getAuthClient();
    get(auth.userAdd(bytes("root"), bytes("pw")));
    get(auth.userGrantRole(bytes("root"), bytes("root")));
    get(auth.roleAdd(bytes("r")));
    get(auth.roleGrantPermission(bytes("r"), bytes("a"), bytes("b"), Permission.Type.READWRITE));
    get(auth.userAdd(bytes("alice"), bytes("pw")));
    get(auth.userGrantRole(bytes("alice"), bytes("r")));
    get(auth.authEnable());
    System.out.println("nobody: " + refusal(client.getKVClient().put(bytes("a"), bytes("x"))));
    try (var alice = as("alice", "pw"); var root = as("root", "pw"); var wrong = as("alice", "no")) {
      get(alice.getKVClient().put(bytes("a"), bytes("x")));
      System.out.println("not hers: " + refusal(alice.getKVClient().put(bytes("z"), bytes("x"))));
      System.out.println("who is that: " + refusal(wrong.getKVClient().put(bytes("a"), bytes("x"))));
      System.out.println("users " + get(root.getAuthClient().userList()).getUsers());
      get(root.getAuthClient().authDisable());
    }
  }
}
