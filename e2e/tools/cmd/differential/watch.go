package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

const (
	streamsMax  = 5
	watchersMax = 8 // of a stream
)

// watchPair is the same watch stream on both servers.
//
// How revisions are grouped into answers is chance, and so is when they come. So events are
// compared as one flat sequence a watcher, at barriers: both servers are asked for progress until
// they say that everything up to the current revision is sent.
type watchPair struct {
	number   int
	sides    [2]*watchStream
	watchers map[int64]*watcher
}

type watcher struct {
	request *pb.WatchCreateRequest
	// compacted is set if it starts below the compacted revision: it is cancelled some time after
	// it is created, at etcd's next round through the watchers that read history.
	compacted bool
}

// awaitsFuture is true while a watcher starts above the store's revision. etcd answers no
// progress request on its stream then, so there is no barrier.
func (p *watchPair) awaitsFuture(revision int64) bool {
	for _, w := range p.watchers {
		if w.request.StartRevision > revision {
			return true
		}
	}
	return false
}

func (d *duel) awaitsFuture() bool {
	return slices.ContainsFunc(d.streams, func(p *watchPair) bool { return p.awaitsFuture(d.revision) })
}

// watchIDs are the ids of the live watchers, in an order that does not depend on a Go map.
func (p *watchPair) watchIDs() []int64 {
	return slices.Sorted(maps.Keys(p.watchers))
}

func (d *duel) openStream() (*watchPair, error) {
	d.streamCount++
	p := &watchPair{number: d.streamCount, watchers: map[int64]*watcher{}}
	for side, server := range d.watches {
		var err error
		p.sides[side], err = openWatchStream(server, fmt.Sprintf("%s: watch stream %d", sideNames[side], p.number))
		if err != nil {
			return nil, err
		}
	}
	d.streams = append(d.streams, p)
	return p, nil
}

// anyStream is an open stream, or a new one while there are few.
func (d *duel) anyStream() (*watchPair, error) {
	if i := d.IntN(streamsMax); i < len(d.streams) {
		return d.streams[i], nil
	}
	return d.openStream()
}

// exchange sends a request on both sides and compares what take gets there.
func (d *duel) exchange(
	p *watchPair, name string, request *pb.WatchRequest,
	take func(*watchStream) (*pb.WatchResponse, error),
) (*pb.WatchResponse, error) {
	name = fmt.Sprintf("%s on stream %d", name, p.number)
	a, err := d.ask(operation{name, request, func(_ context.Context, side int) answer {
		if request != nil {
			if err := p.sides[side].client.Send(request); err != nil {
				return answer{err: err}
			}
		}
		return one(take(p.sides[side]))
	}})
	if err != nil {
		return nil, err
	}
	if a.err != nil {
		return nil, a.err // the same on both sides, yet no stream may fail
	}
	return a.messages[0].(*pb.WatchResponse), nil
}

func (d *duel) createWatch() error {
	p, err := d.anyStream()
	if err != nil {
		return err
	}
	if len(p.watchers) == watchersMax {
		return d.cancelWatchOf(p)
	}
	create := d.watchRequest(p)
	response, err := d.exchange(p, "Watch create", createRequest(create), (*watchStream).takeCreated)
	if err != nil || response.Canceled {
		return err
	}
	p.watchers[response.WatchId] = &watcher{
		request:   create,
		compacted: create.StartRevision > 0 && create.StartRevision < d.compacted,
	}
	return nil
}

func (d *duel) watchRequest(p *watchPair) *pb.WatchCreateRequest {
	w := &pb.WatchCreateRequest{
		PrevKv:         d.chance(40),
		Fragment:       d.chance(30),
		ProgressNotify: d.chance(20),
		StartRevision:  d.watchRevision(),
	}
	w.Key, w.RangeEnd = d.span()
	for _, filter := range []pb.WatchCreateRequest_FilterType{0, 1} {
		if d.chance(12) {
			w.Filters = append(w.Filters, filter)
		}
	}
	if d.chance(1) {
		w.Filters = append(w.Filters, 9)
	}
	if d.chance(25) {
		w.WatchId = []int64{1, 2, 3, 5, 100, -7, math.MaxInt64}[d.IntN(7)]
	}
	return w
}

func (d *duel) watchRevision() int64 {
	switch p := d.IntN(100); {
	case p < 72:
		return 0
	case p < 80:
		return max(1, d.revision-d.Int64N(300))
	case p < 86:
		return d.pastRevision()
	case p < 88:
		return d.compacted
	case p < 90:
		return d.compacted - 1
	case p < 97:
		return d.revision + 1 + d.Int64N(12)
	case p < 98:
		return d.revision
	}
	return -1 - d.Int64N(3)
}

func (d *duel) cancelWatch() error {
	if len(d.streams) == 0 {
		return d.createWatch()
	}
	return d.cancelWatchOf(d.streams[d.IntN(len(d.streams))])
}

// cancelWatchOf cancels one watcher. A barrier comes first: which of the events on the way still
// arrive is chance.
func (d *duel) cancelWatchOf(p *watchPair) error {
	if p.awaitsFuture(d.revision) {
		return d.writePut()
	}
	if err := d.compareStream(p); err != nil {
		return err
	}
	ids := p.watchIDs()
	if len(ids) == 0 {
		return d.createWatch()
	}
	id := ids[d.IntN(len(ids))]
	delete(p.watchers, id)
	return d.cancelOn(p, id)
}

func (d *duel) cancelOn(p *watchPair, id int64) error {
	_, err := d.exchange(p, "Watch cancel", cancelRequest(id), func(s *watchStream) (*pb.WatchResponse, error) {
		return s.takeCanceled(id)
	})
	return err
}

func (d *duel) requestProgress() error {
	if len(d.streams) == 0 {
		return d.createWatch()
	}
	p := d.streams[d.IntN(len(d.streams))]
	if p.awaitsFuture(d.revision) {
		return d.writePut()
	}
	return d.compareStream(p)
}

// closeStream ends a stream with all its watchers.
func (d *duel) closeStream() error {
	if len(d.streams) == 0 {
		return d.createWatch()
	}
	i := d.IntN(len(d.streams))
	p := d.streams[i]
	if p.awaitsFuture(d.revision) {
		return d.writePut()
	}
	if err := d.compareStream(p); err != nil {
		return err
	}
	for _, side := range p.sides {
		side.cancel()
	}
	d.streams = slices.Delete(d.streams, i, i+1)
	return nil
}

// compareStreams is a barrier on every stream that can have one.
func (d *duel) compareStreams() error {
	for _, p := range d.streams {
		if p.awaitsFuture(d.revision) {
			continue
		}
		if err := d.compareStream(p); err != nil {
			return err
		}
	}
	return nil
}

// compareStream brings both sides of a stream up to the current revision and compares all events
// that came since the last time.
func (d *duel) compareStream(p *watchPair) error {
	if err := d.endCompacted(p); err != nil {
		return err
	}
	if len(p.watchers) > 0 {
		errs := make(chan error, len(p.sides))
		for _, side := range p.sides {
			go func() { errs <- side.reachProgress(d.revision) }()
		}
		for range p.sides {
			if err := <-errs; err != nil {
				return err
			}
		}
	}
	for _, id := range p.watchIDs() {
		if err := d.compareEvents(p, id); err != nil {
			return fmt.Errorf("%w\nwatcher %d of stream %d: %s",
				err, id, p.number, text(p.watchers[id].request))
		}
	}
	return noStrayMessages(p)
}

// endCompacted takes the cancellation of watchers that began below the compacted revision. For
// etcd they live on until the client cancels them too, and keep progress from being answered.
func (d *duel) endCompacted(p *watchPair) error {
	for _, id := range p.watchIDs() {
		if !p.watchers[id].compacted {
			continue
		}
		_, err := d.exchange(p, "Watch compacted", nil, func(s *watchStream) (*pb.WatchResponse, error) {
			return s.takeCanceled(id)
		})
		if err != nil {
			return err
		}
		delete(p.watchers, id)
		if err := d.cancelOn(p, id); err != nil {
			return err
		}
	}
	return nil
}

// compareEvents compares the events of one watcher and takes them out.
func (d *duel) compareEvents(p *watchPair, id int64) error {
	a, b, err := takeEvents(p, id)
	if err != nil {
		return err
	}
	for i := range min(len(a), len(b)) {
		if !equalMessages(a[i], b[i]) {
			return fmt.Errorf("watch event %d since the last barrier differs\n%s", i, difference(text(a[i]), text(b[i])))
		}
	}
	if len(a) != len(b) {
		longer, n := a, min(len(a), len(b))
		if len(b) > n {
			longer = b
		}
		return fmt.Errorf("a sent %d watch events since the last barrier, b %d, when both had answered for progress\nthe first that only one sent: %s",
			len(a), len(b), text(longer[n]))
	}
	d.eventCount += len(a)
	return nil
}

// takeEvents takes the events of both sides. A side whose progress answers may have been late
// gets time to send as many events as the other.
func takeEvents(p *watchPair, id int64) (a, b []*mvccpb.Event, err error) {
	deadline := time.Now().Add(answerTimeout)
	for {
		counts := [2]int{p.sides[0].eventCount(id), p.sides[1].eventCount(id)}
		short := p.sides[0]
		if counts[1] < counts[0] {
			short = p.sides[1]
		}
		if counts[0] == counts[1] || short.isSettled() {
			break
		}
		fewer := min(counts[0], counts[1])
		more, err := short.await(deadline, func() bool { return len(short.events[id]) > fewer })
		if err != nil {
			return nil, nil, err
		}
		if !more {
			break
		}
	}
	return p.sides[0].takeEvents(id), p.sides[1].takeEvents(id), nil
}

// noStrayMessages finds what nobody asked for.
func noStrayMessages(p *watchPair) error {
	for _, s := range p.sides {
		s.mu.Lock()
		err := s.err
		for id, events := range s.events {
			if p.watchers[id] == nil && len(events) > 0 {
				err = fmt.Errorf("%s: event for watch %d, which is not there: %s", s.name, id, text(events[0]))
			}
		}
		for id, canceled := range s.canceled {
			if len(canceled) > 0 {
				err = fmt.Errorf("%s: watch %d is cancelled without cause: %s", s.name, id, text(canceled[0]))
			}
		}
		if len(s.created) > 0 {
			err = fmt.Errorf("%s: a second answer to a create request: %s", s.name, text(s.created[0]))
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// finish writes until no watcher waits for the future and compares everything a last time.
func (d *duel) finish() error {
	for d.awaitsFuture() {
		if err := d.writePut(); err != nil {
			return err
		}
	}
	if err := d.compareStreams(); err != nil {
		return err
	}
	_, err := d.ask(d.rangeOperation(allKeys()))
	return err
}
