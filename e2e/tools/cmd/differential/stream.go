package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"engram.dev/e2e/tools/internal/endpoint"
)

// watchStream is one watch stream on one server: a reader sorts what arrives, the main routine
// waits for it and takes it out.
type watchStream struct {
	name   string
	client pb.Watch_WatchClient
	cancel context.CancelFunc
	// arrived gets a token when something has arrived.
	arrived chan struct{}

	mu       sync.Mutex
	created  []*pb.WatchResponse           // answers to creates, in their order
	canceled map[int64][]*pb.WatchResponse // by watch id
	events   map[int64][]*mvccpb.Event     // by watch id, flattened
	progress int64                         // the last revision of a progress answer
	answered int                           // how many progress answers
	err      error

	requested int // how many progress requests; only the main routine uses it
}

func openWatchStream(server *endpoint.Endpoint, name string) (*watchStream, error) {
	ctx, cancel := context.WithCancel(context.Background())
	client, err := server.Watch.Watch(ctx)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s := &watchStream{
		name:     name,
		client:   client,
		cancel:   cancel,
		arrived:  make(chan struct{}, 1),
		canceled: map[int64][]*pb.WatchResponse{},
		events:   map[int64][]*mvccpb.Event{},
	}
	go s.read()
	return s, nil
}

func (s *watchStream) read() {
	for {
		response, err := s.client.Recv()
		s.mu.Lock()
		if err == nil {
			err = s.sort(response)
		}
		if err != nil {
			s.err = fmt.Errorf("%s: %w", s.name, err)
		}
		s.mu.Unlock()
		select {
		case s.arrived <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// sort puts one answer where it belongs. Only what etcd never sends is an error.
func (s *watchStream) sort(w *pb.WatchResponse) error {
	id := w.WatchId
	switch {
	case w.Created:
		s.created = append(s.created, w)
	case w.Canceled:
		s.canceled[id] = append(s.canceled[id], w)
	case len(w.Events) > 0:
		last := w.Events[len(w.Events)-1].Kv.ModRevision
		if w.Header.GetRevision() < last {
			return fmt.Errorf("header of watch %d has revision %d, its last event %d",
				id, w.Header.GetRevision(), last)
		}
		s.events[id] = append(s.events[id], w.Events...)
		return nil
	case id == -1:
		s.progress = w.Header.GetRevision()
		s.answered++
	default:
		// A periodic progress notification of one watcher; they come every ten minutes.
		return nil
	}
	if len(w.Events) > 0 {
		return fmt.Errorf("events in a control message: %s", text(w))
	}
	return nil
}

// await waits until ready, which is called with the lock held, and reports whether it came true
// before the deadline.
func (s *watchStream) await(deadline time.Time, ready func() bool) (bool, error) {
	for {
		s.mu.Lock()
		done, err := ready(), s.err
		s.mu.Unlock()
		if done || err != nil {
			return done, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false, nil
		}
		timer := time.NewTimer(left)
		select {
		case <-s.arrived:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// takeCreated waits for the answer to the create request that was sent last.
func (s *watchStream) takeCreated() (*pb.WatchResponse, error) {
	var response *pb.WatchResponse
	done, err := s.await(time.Now().Add(answerTimeout), func() bool {
		if len(s.created) == 0 {
			return false
		}
		response, s.created = s.created[0], s.created[1:]
		return true
	})
	if err == nil && !done {
		err = fmt.Errorf("%s: no answer to a create request", s.name)
	}
	return response, err
}

// takeCanceled waits for the message that ends the watch id.
func (s *watchStream) takeCanceled(id int64) (*pb.WatchResponse, error) {
	var response *pb.WatchResponse
	done, err := s.await(time.Now().Add(answerTimeout), func() bool {
		waiting := s.canceled[id]
		if len(waiting) == 0 {
			return false
		}
		response, s.canceled[id] = waiting[0], waiting[1:]
		return true
	})
	if err == nil && !done {
		err = fmt.Errorf("%s: watch %d is not cancelled", s.name, id)
	}
	return response, err
}

// progressResend is after how long a progress request is repeated: etcd leaves one unanswered
// while a watcher of the stream still reads history, which takes it up to 100 ms.
const progressResend = 20 * time.Millisecond

// reachProgress asks for progress until the server says that everything up to revision is sent.
func (s *watchStream) reachProgress(revision int64) error {
	s.mu.Lock()
	s.progress = 0
	s.mu.Unlock()
	deadline := time.Now().Add(answerTimeout)
	for time.Now().Before(deadline) {
		s.requested++
		if err := s.client.Send(progressRequest()); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		done, err := s.await(time.Now().Add(progressResend), func() bool {
			return s.progress >= revision
		})
		if err != nil {
			return err
		}
		if done {
			return s.checkProgress(revision)
		}
	}
	return fmt.Errorf("%s: no progress answer for revision %d", s.name, revision)
}

func (s *watchStream) checkProgress(revision int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.progress != revision {
		return fmt.Errorf("%s: progress to revision %d while the store is at %d",
			s.name, s.progress, revision)
	}
	return nil
}

// isSettled is true if every progress request was answered: then the last answer belongs to the
// last request, and every event before it must have arrived.
func (s *watchStream) isSettled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered == s.requested
}

func (s *watchStream) eventCount(id int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events[id])
}

func (s *watchStream) takeEvents(id int64) []*mvccpb.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := s.events[id]
	delete(s.events, id)
	return events
}

func progressRequest() *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{
		ProgressRequest: &pb.WatchProgressRequest{},
	}}
}

func createRequest(create *pb.WatchCreateRequest) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}
}

func cancelRequest(id int64) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
		CancelRequest: &pb.WatchCancelRequest{WatchId: id},
	}}
}
