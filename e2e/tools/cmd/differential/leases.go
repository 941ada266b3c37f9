package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// leaseIDs are all that clients of this test choose; negative ones are valid.
var leaseIDs = []int64{1, 2, 3, 77, 1 << 32, math.MaxInt64, -1, -9, math.MinInt64, 100, 101, 102}

// Leases must not expire during a run, and LeaseLeases sorts by expiry, to the nanosecond: among
// so many different TTLs no two leases ever come close enough for the order to be chance.
const (
	leaseTTLMin = 100_000
	leaseTTLMax = 500_000_000
	// leaseTTLRefused is one second more than etcd allows.
	leaseTTLRefused = 9_000_000_001
)

func (g *generator) leaseID() int64 {
	if g.chance(2) {
		return 4242 // never granted
	}
	return leaseIDs[g.IntN(len(leaseIDs))]
}

// someLease is a lease id in percent of 100 cases, else none.
func (g *generator) someLease(percent float64) int64 {
	if g.chance(percent) {
		return g.leaseID()
	}
	return 0
}

func (d *duel) grantLease() error {
	request := &pb.LeaseGrantRequest{ID: d.leaseID(), TTL: leaseTTLMin + d.Int64N(leaseTTLMax)}
	if request.ID == 4242 {
		request.TTL = leaseTTLRefused
	}
	_, err := d.ask(unary(d, "LeaseGrant", request, pb.LeaseClient.LeaseGrant, leaseOf))
	return err
}

func (d *duel) revokeLease() error {
	request := &pb.LeaseRevokeRequest{ID: d.leaseID()}
	_, err := d.ask(unary(d, "LeaseRevoke", request, pb.LeaseClient.LeaseRevoke, leaseOf))
	return err
}

func (d *duel) readLease() error {
	request := &pb.LeaseTimeToLiveRequest{ID: d.leaseID(), Keys: d.chance(60)}
	_, err := d.ask(unary(d, "LeaseTimeToLive", request, pb.LeaseClient.LeaseTimeToLive, leaseOf))
	return err
}

func (d *duel) listLeases() error {
	request := &pb.LeaseLeasesRequest{}
	_, err := d.ask(unary(d, "LeaseLeases", request, pb.LeaseClient.LeaseLeases, leaseOf))
	return err
}

func (d *duel) keepLeaseAlive() error {
	request := &pb.LeaseKeepAliveRequest{ID: d.leaseID()}
	_, err := d.ask(operation{"LeaseKeepAlive", request, func(ctx context.Context, side int) answer {
		return withDeadline(ctx, func() answer {
			if err := d.keepAlives[side].Send(request); err != nil {
				return answer{err: err}
			}
			return one(d.keepAlives[side].Recv())
		})
	}})
	return err
}

// withDeadline waits for call no longer than ctx. A call that is late is left behind: the run
// ends then.
func withDeadline(ctx context.Context, call func() answer) answer {
	result := make(chan answer, 1)
	go func() { result <- call() }()
	select {
	case a := <-result:
		return a
	case <-ctx.Done():
		return answer{err: ctx.Err()}
	}
}

var errLeaseID = errors.New("the server chose a lease id that is not positive")

// grantAnyLease lets each server choose an id, looks at the lease and revokes it. The ids differ,
// so they are checked here and taken out of the answers.
func (d *duel) grantAnyLease() error {
	request := &pb.LeaseGrantRequest{TTL: leaseTTLMin + d.Int64N(leaseTTLMax)}
	_, err := d.ask(operation{"LeaseGrant, LeaseTimeToLive, LeaseRevoke of an id of the server's choice",
		request, func(ctx context.Context, side int) answer {
			lease := d.servers[side].Lease
			granted, err := lease.LeaseGrant(ctx, request)
			if err != nil {
				return answer{err: err}
			}
			id := granted.ID
			if id <= 0 {
				return answer{err: fmt.Errorf("%w: %d", errLeaseID, id)}
			}
			read, err := lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
			if err != nil {
				return answer{err: err}
			}
			if read.ID != id {
				return answer{err: fmt.Errorf("LeaseTimeToLive of %d answers for %d", id, read.ID)}
			}
			granted.ID, read.ID = set, set
			a := one(lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id}))
			a.messages = append(a.messages, granted, read)
			return a
		}})
	return err
}
