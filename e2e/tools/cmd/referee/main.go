// Command referee judges a recorded history with etcd's own model and validators.
//
// Usage: referee DIR
//
// DIR is in the layout of etcd's robustness tests (`client-N/operations.json`,
// `client-N/watch.json`), and holds `persisted.json` beside them: the requests that took effect, one
// JSON object after the other, in the order of their revisions. etcd's tests read those from the
// members' write-ahead logs; our recorders (e2e/src/history, the command traffic) take them from the
// merged events of complete watches, so that any server can be judged.
//
// It checks that the operations are strictly serializable (porcupine with etcd's model), and that
// every watch was ordered, unique, atomic, reliable, resumable and bookmarkable; it exits with 1 where
// that is not so. Operations that are not serializable are drawn in DIR/history.html.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
	"go.uber.org/zap"
)

// searchMax bounds the search for a linearization: etcd's own tests allow the same.
const searchMax = 5 * time.Minute

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: referee DIR")
		os.Exit(2)
	}
	if err := judge(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "referee:", err)
		os.Exit(1)
	}
}

func judge(dir string) error {
	reports, err := report.LoadClientReports(dir)
	if err != nil {
		return err
	}
	persisted, err := loadPersisted(filepath.Join(dir, "persisted.json"))
	if err != nil {
		return err
	}
	logger, err := zap.NewDevelopment(zap.IncreaseLevel(zap.ErrorLevel))
	if err != nil {
		return err
	}
	started := time.Now()
	config, err := promised(dir)
	if err != nil {
		return err
	}
	result := validate.ValidateAndReturnVisualize(logger, config, reports, persisted, searchMax)
	if err := result.Linearization.Error(); err != nil {
		page := filepath.Join(dir, "history.html")
		linearization := result.Linearization
		return errors.Join(err, porcupine.VisualizePath(linearization.Model, linearization.Info, page))
	}
	if err := result.Error(); err != nil {
		return err
	}
	operations, events := 0, 0
	for _, client := range reports {
		operations += len(client.KeyValue)
		events += client.WatchEventCount()
	}
	fmt.Printf("referee: %d operations are strictly serializable, %d watch events keep etcd's promises (%.1f s)\n",
		operations, events, time.Since(started).Seconds())
	return nil
}

// promised reads what the traffic promises of itself, `traffic.json`: that no revision has two events.
// Where there is no such file, a transaction over two keys has.
func promised(dir string) (validate.Config, error) {
	detail, err := report.LoadTrafficDetail(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return validate.Config{}, err
	}
	return validate.Config{ExpectRevisionUnique: detail.ExpectUniqueRevision}, nil
}

func loadPersisted(path string) (requests []model.EtcdRequest, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	decoder := json.NewDecoder(file)
	for {
		var request model.EtcdRequest
		switch err := decoder.Decode(&request); {
		case errors.Is(err, io.EOF):
			return requests, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		requests = append(requests, request)
	}
}
