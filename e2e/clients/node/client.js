// What a program does through Node's etcd3: key-values, a transaction, a watch, a lease, a lock, an
// election, users. The address is the argument; a line is an answer, the same at any server.
const { Etcd3 } = require('etcd3');

const hosts = `http://${process.argv[2]}`;
const options = { hosts, faultHandling: { watchBackoff: undefined } };

const refusal = async (doing) => {
  try {
    await doing;
    return 'let through';
  } catch (error) {
    return `${error.constructor.name}: ${error.message.replace(/^\d+ /, '')}`;
  }
};

async function keys(client) {
  await client.put('a').value('1');
  await client.put('b').value('2');
  console.log('got', await client.get('a').string(), await client.get('nothing').string());
  console.log('all', await client.getAll().strings());
  console.log('sorted', await client.getAll().sort('Key', 'Descend').limit(1).keys());
  const txn = await client
    .if('a', 'Value', '==', '1')
    .then(client.put('t').value('x'), client.get('a'))
    .else(client.delete().key('a'))
    .commit();
  console.log('txn', txn.succeeded, txn.responses.length, txn.header.revision);
  const deleted = await client.delete().key('a').getPrevious();
  console.log('deleted', deleted.map((kv) => kv.value.toString()));
}

async function watch(client) {
  const watcher = await client.watch().prefix('w').create();
  const seen = [];
  const both = new Promise((resolve) => {
    const note = (kind) => (kv) => {
      seen.push(`${kind} ${kv.key} ${kv.value}`);
      if (seen.length === 2) resolve();
    };
    watcher.on('put', note('put')).on('delete', note('delete'));
  });
  await client.put('w1').value('x');
  await client.delete().key('w1');
  await both;
  console.log('events', seen);
  await watcher.cancel();
}

async function leases(client) {
  const lease = client.lease(60);
  await lease.put('leased').value('x');
  const once = await lease.keepaliveOnce();
  console.log('lease', once.TTL, await client.get('leased').string());
  await lease.revoke();
  console.log('after it', await client.get('leased').string());
}

async function locks(client) {
  const first = client.lock('lock');
  await first.acquire();
  console.log('second', await refusal(client.lock('lock').acquire()));
  await first.release();
  console.log('lock', await client.lock('lock').do(async () => 'held'));
  const election = client.election('election');
  const campaign = election.campaign('me');
  await new Promise((resolve) => campaign.on('elected', resolve));
  console.log('leader', await election.leader());
  await campaign.resign();
}

async function users(client) {
  await client.user('root').create('pw');
  await client.user('root').addRole('root');
  await client.role('r').create();
  await client.role('r').grant({ permission: 'Readwrite', key: Buffer.from('a') });
  await client.user('alice').create('pw');
  await client.user('alice').addRole('r');
  await client.auth.authEnable();
  console.log('nobody', await refusal(client.put('a').value('x').exec()));
  const alice = new Etcd3({ ...options, auth: { username: 'alice', password: 'pw' } });
  await alice.put('a').value('x');
  console.log('not hers', await refusal(alice.put('z').value('x').exec()));
  const wrong = new Etcd3({ ...options, auth: { username: 'alice', password: 'no' } });
  console.log('who is that', await refusal(wrong.put('a').value('x').exec()));
  const root = new Etcd3({ ...options, auth: { username: 'root', password: 'pw' } });
  console.log('users', (await root.getUsers()).map((user) => user.name));
  await root.auth.authDisable();
  for (const one of [alice, wrong, root]) one.close();
}

(async () => {
  const client = new Etcd3(options);
  for (const part of [keys, watch, leases, locks, users]) await part(client);
  client.close();
  console.log('done');
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
