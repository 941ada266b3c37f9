// Package endpoint connects the tools to one member that speaks etcd's v3 API. It uses the raw
// gRPC stubs: clientv3 retries, rewrites errors and reorders watch answers, which would hide just
// what the tools look at.
package endpoint

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// messageBytesMax bounds one message in either direction. It only has to be above what a server
// may send: a Range over a million small keys is about 400 MB.
const messageBytesMax = 1 << 30

// Endpoint is one connection to one member, with a stub for every service.
type Endpoint struct {
	Addr        string
	Conn        *grpc.ClientConn
	KV          pb.KVClient
	Watch       pb.WatchClient
	Lease       pb.LeaseClient
	Cluster     pb.ClusterClient
	Maintenance pb.MaintenanceClient
	Auth        pb.AuthClient
}

// Dial makes an Endpoint for addr (HOST:PORT, no TLS). The connection itself is made at the first
// call, so a server that is not there shows up there.
func Dial(addr string, more ...grpc.DialOption) (*Endpoint, error) {
	conn, err := grpc.NewClient("passthrough:///"+addr, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallSendMsgSize(messageBytesMax),
			grpc.MaxCallRecvMsgSize(messageBytesMax),
		),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", addr, err)
	}
	return &Endpoint{
		Addr:        addr,
		Conn:        conn,
		KV:          pb.NewKVClient(conn),
		Watch:       pb.NewWatchClient(conn),
		Lease:       pb.NewLeaseClient(conn),
		Cluster:     pb.NewClusterClient(conn),
		Maintenance: pb.NewMaintenanceClient(conn),
		Auth:        pb.NewAuthClient(conn),
	}, nil
}

// Close ends the connection and every stream on it.
func (e *Endpoint) Close() error {
	return e.Conn.Close()
}
