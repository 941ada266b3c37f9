// Package clientv3_test is that of the examples of etcd's client, with this file in the place of etcd's:
// the cluster is one that runs, and is named by ENGRAM_ENDPOINTS. build.sh lays the rest of the package
// beside it.
package clientv3_test

import (
	"os"
	"strings"
	"testing"
	"time"
)

const (
	dialTimeout    = 5 * time.Second
	requestTimeout = 10 * time.Second
)

func exampleEndpoints() []string { return strings.Split(os.Getenv("ENGRAM_ENDPOINTS"), ",") }

func forUnitTestsRunInMockedContext(_, example func()) { example() }

func TestMain(m *testing.M) { os.Exit(m.Run()) }
