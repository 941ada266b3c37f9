package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"engram.dev/e2e/tools/internal/endpoint"
)

// What a cluster writes, at Kubernetes' own defaults: a node renews its lease every ten seconds and tells its
// status every five minutes. Pods and events are those of a large cluster at work.
const (
	leasePeriod  = 10 * time.Second
	statusPeriod = 5 * time.Minute
	// podsBorn is the pods that come, and go, in a second a thousand nodes.
	podsBorn = 4.0
	// eventsTold is the events in a second a thousand nodes.
	eventsTold = 10.0
	// versionsAsked is how often in a second an apiserver asks how far the store is, before it reads from its cache.
	versionsAsked = 50.0
)

// What an object is large, as stored.
const (
	leaseBytes  = 400
	statusBytes = 9_000
	podBytes    = 4_500
	eventBytes  = 750
)

const (
	// apiservers is how many there are: each watches what it caches.
	apiservers = 3
	// idleResources are resources that an apiserver watches too and that nobody writes.
	idleResources = 45
	// podsAlive is how many pods are on their way at a time.
	podsAlive = 1200
	// podSteps are the writes of a pod's life: created, bound, three statuses, deleted.
	podSteps = 6
	// eventsALease is after how many events an apiserver takes another lease for them.
	eventsALease = 1000
	eventTTL     = 3600
)

// kind is one sort of what an apiserver asks.
type kind struct {
	prefix   string
	bytes    int
	rate     float64 // a second
	watched  bool
	objects  []object
	sequence atomic.Int64
	do       func(k *kubernetes, c *caller, kind *kind, number int64) error
}

// object is a key that apiservers write with the revision they know it at.
type object struct {
	mu       sync.Mutex
	key      []byte
	revision int64
	step     int
}

// kubernetes is the cluster that is played.
type kubernetes struct {
	kinds    []*kind
	schedule []*kind // whose turn it is, over and over
	clients  [apiservers]map[*kind]*endpoint.Endpoint
	idle     []*endpoint.Endpoint
	lease    atomic.Int64
	written  atomic.Int64 // of what is watched
	received atomic.Int64
	failed   atomic.Pointer[error]
}

// prepareKubernetes makes the objects and the watches, and says how much is offered.
func prepareKubernetes(b *bench) error {
	nodes := float64(b.nodes)
	named := func(kind *kind, count int, name string) *kind {
		kind.objects = make([]object, count)
		for i := range kind.objects {
			kind.objects[i].key = fmt.Appendf(nil, "%s%s-%05d", kind.prefix, name, i)
		}
		return kind
	}
	k := &kubernetes{kinds: []*kind{
		named(&kind{prefix: "/registry/leases/kube-node-lease/", bytes: leaseBytes, watched: true,
			rate: nodes / leasePeriod.Seconds(), do: (*kubernetes).update}, b.nodes, "node"),
		named(&kind{prefix: "/registry/minions/", bytes: statusBytes, watched: true,
			rate: nodes / statusPeriod.Seconds(), do: (*kubernetes).update}, b.nodes, "node"),
		named(&kind{prefix: "/registry/pods/default/", bytes: podBytes, watched: true,
			rate: podsBorn * podSteps * nodes / 1000, do: (*kubernetes).live}, podsAlive, "pod"),
		{prefix: "/registry/events/default/", bytes: eventBytes,
			rate: eventsTold * nodes / 1000, do: (*kubernetes).tell},
		{prefix: "/registry/pods/", rate: versionsAsked, do: (*kubernetes).ask},
	}}
	b.cluster = k
	if err := k.connect(b); err != nil {
		return err
	}
	if err := k.fill(b); err != nil {
		return err
	}
	if err := k.watch(b); err != nil {
		return err
	}
	k.plan()
	b.rate = 0
	for _, kind := range k.kinds {
		b.rate += kind.rate
	}
	b.total = int(b.rate * float64(b.seconds))
	return nil
}

// connect gives each apiserver a connection a resource, as apiservers have.
func (k *kubernetes) connect(b *bench) error {
	for i := range k.clients {
		k.clients[i] = map[*kind]*endpoint.Endpoint{}
		for _, kind := range k.kinds {
			e, err := endpoint.Dial(b.addr)
			if err != nil {
				return err
			}
			k.clients[i][kind] = e
		}
		for range idleResources {
			e, err := endpoint.Dial(b.addr)
			if err != nil {
				return err
			}
			k.idle = append(k.idle, e)
		}
	}
	lease, err := b.endpoints[0].Lease.LeaseGrant(b.ctx, &pb.LeaseGrantRequest{TTL: eventTTL})
	if err == nil {
		k.lease.Store(lease.ID)
	}
	return err
}

// fill creates what is there before anybody looks: nodes with their leases, and pods in all parts of their lives.
func (k *kubernetes) fill(b *bench) error {
	var done sync.WaitGroup
	errs := make(chan error, b.callers)
	for worker := range b.callers {
		done.Go(func() {
			values := newValues(b.seed, uint64(worker), statusBytes)
			for _, kind := range k.kinds {
				for i := worker; i < len(kind.objects); i += b.callers {
					o := &kind.objects[i]
					o.step = i % podSteps
					if kind.bytes == podBytes && o.step == 0 {
						continue
					}
					answer, err := b.endpoints[0].KV.Put(b.ctx, &pb.PutRequest{Key: o.key, Value: values.of(kind.bytes)})
					if err != nil {
						errs <- err
						return
					}
					o.revision = answer.Header.Revision
				}
			}
		})
	}
	done.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// watch opens the apiservers' watches: whole prefixes, with the values before and told of progress.
func (k *kubernetes) watch(b *bench) error {
	open := func(e *endpoint.Endpoint, prefix string) error {
		stream, err := e.Watch.Watch(b.ctx)
		if err != nil {
			return err
		}
		end := []byte(prefix)
		end[len(end)-1]++
		err = createWatcher(stream, &pb.WatchCreateRequest{
			Key: []byte(prefix), RangeEnd: end, PrevKv: true, ProgressNotify: true,
		})
		if err != nil {
			return err
		}
		go func() {
			for {
				response, err := stream.Recv()
				if err != nil {
					k.failed.CompareAndSwap(nil, &err)
					return
				}
				k.received.Add(int64(len(response.Events)))
			}
		}()
		return nil
	}
	for i := range k.clients {
		for _, kind := range k.kinds {
			if !kind.watched {
				continue
			}
			if err := open(k.clients[i][kind], kind.prefix); err != nil {
				return err
			}
		}
	}
	for i, e := range k.idle {
		if err := open(e, fmt.Sprintf("/registry/resource-%02d/", i%idleResources)); err != nil {
			return err
		}
	}
	return nil
}

// plan spreads the kinds evenly, each as often as its rate says.
func (k *kubernetes) plan() {
	const turns = 10_000
	all := 0.0
	for _, kind := range k.kinds {
		all += kind.rate
	}
	owed := make([]float64, len(k.kinds))
	for range turns {
		most := 0
		for i, kind := range k.kinds {
			owed[i] += kind.rate / all
			if owed[i] > owed[most] {
				most = i
			}
		}
		owed[most]--
		k.schedule = append(k.schedule, k.kinds[most])
	}
}

func connectKubernetes(b *bench, _ *caller) (operation, error) {
	k := b.cluster
	return func(c *caller) error {
		kind := k.schedule[c.index%len(k.schedule)]
		return kind.do(k, c, kind, kind.sequence.Add(1)-1)
	}, nil
}

// client is the connection of the apiserver whose turn it is.
func (k *kubernetes) client(kind *kind, number int64) *endpoint.Endpoint {
	return k.clients[number%apiservers][kind]
}

// update writes the next object if it is as it was known, as a guaranteed update does.
func (k *kubernetes) update(c *caller, kind *kind, number int64) error {
	o := &kind.objects[number%int64(len(kind.objects))]
	o.mu.Lock()
	defer o.mu.Unlock()
	return k.commit(c, kind, number, o, kubernetesTxn(o.key, c.value(kind), o.revision))
}

// live takes the next pod a step further.
func (k *kubernetes) live(c *caller, kind *kind, number int64) error {
	o := &kind.objects[number%int64(len(kind.objects))]
	o.mu.Lock()
	defer o.mu.Unlock()
	txn := kubernetesTxn(o.key, c.value(kind), o.revision)
	if o.step == podSteps-1 {
		txn.Success = []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &pb.DeleteRangeRequest{Key: o.key},
		}}}
	}
	if err := k.commit(c, kind, number, o, txn); err != nil {
		return err
	}
	if o.step = (o.step + 1) % podSteps; o.step == 0 {
		o.revision = 0
	}
	return nil
}

// commit sends a transaction that nobody is in the way of.
func (k *kubernetes) commit(c *caller, kind *kind, number int64, o *object, txn *pb.TxnRequest) error {
	response, err := k.client(kind, number).KV.Txn(c.ctx, txn)
	if err != nil {
		return err
	}
	if !response.Succeeded {
		return fmt.Errorf("%s is not at revision %d", o.key, o.revision)
	}
	o.revision = response.Header.Revision
	k.written.Add(1)
	return nil
}

// tell creates an event, on the lease that it goes with.
func (k *kubernetes) tell(c *caller, kind *kind, number int64) error {
	client := k.client(kind, number)
	if number%eventsALease == eventsALease-1 {
		lease, err := client.Lease.LeaseGrant(c.ctx, &pb.LeaseGrantRequest{TTL: eventTTL})
		if err != nil {
			return err
		}
		k.lease.Store(lease.ID)
	}
	// Names are of one run: a second one on the same store makes others.
	key := fmt.Appendf(nil, "%s%d.%08d", kind.prefix, c.started, number)
	txn := kubernetesTxn(key, c.value(kind), 0)
	txn.Success[0].GetRequestPut().Lease = k.lease.Load()
	response, err := client.KV.Txn(c.ctx, txn)
	if err == nil && !response.Succeeded {
		err = fmt.Errorf("%s is there already", key)
	}
	return err
}

// ask is how an apiserver learns how far the store is: it reads a key that is none.
func (k *kubernetes) ask(c *caller, kind *kind, number int64) error {
	_, err := k.client(kind, number).KV.Range(c.ctx, &pb.RangeRequest{Key: []byte(kind.prefix)})
	return err
}

// value is an object of the kind's size.
func (c *caller) value(kind *kind) []byte { return c.values.of(kind.bytes) }

// drainKubernetes waits until every apiserver has seen every write.
func drainKubernetes(b *bench) error {
	k := b.cluster
	expected := k.written.Load() * apiservers
	deadline := time.Now().Add(drainTimeout)
	for k.received.Load() < expected {
		if err := k.failed.Load(); err != nil {
			return fmt.Errorf("an apiserver's watch: %w", *err)
		}
		if b.ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("%d of %d watch events came", k.received.Load(), expected)
		}
		time.Sleep(time.Millisecond)
	}
	if seen := k.received.Load(); seen > expected {
		return fmt.Errorf("%d watch events came for %d", seen, expected)
	}
	return nil
}
