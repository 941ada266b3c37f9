// Package concurrency_test is that of etcd's tests of its concurrency package, with this file in the
// place of etcd's: the cluster is one that runs, and is named by ENGRAM_ENDPOINTS. build.sh lays the
// rest of the package beside it.
package concurrency_test

import (
	"os"
	"strings"
	"testing"
)

func exampleEndpoints() []string { return strings.Split(os.Getenv("ENGRAM_ENDPOINTS"), ",") }

func forUnitTestsRunInMockedContext(_, example func()) { example() }

func TestMain(m *testing.M) { os.Exit(m.Run()) }
