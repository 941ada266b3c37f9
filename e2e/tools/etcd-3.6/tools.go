//go:build tools

// Package tools pins an older etcd: the programs whose data directories are adopted.
package tools

import (
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
