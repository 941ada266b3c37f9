package main

import (
	"context"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/status"

	"engram.dev/e2e/tools/internal/endpoint"
)

// errorTextMax cuts error texts as the goldens were cut.
const errorTextMax = 120

// probe is one dialogue with one server; every question adds a line.
type probe struct {
	*endpoint.Endpoint
	ctx   context.Context
	lines []string
}

// answer adds the line of the question name. The parts are joined as fmt.Sprint joins them, and
// the second space that protobuf's text form may put between fields (it differs from binary to
// binary) is taken out.
func (p *probe) answer(name string, parts ...any) {
	line := fmt.Sprintln("##", name, fmt.Sprint(parts...))
	line = strings.TrimSuffix(line, "\n")
	p.lines = append(p.lines, strings.ReplaceAll(line, "  ", " "))
}

// outcome is "OK" or "CODE | message".
func outcome(err error) string {
	if err == nil {
		return "OK"
	}
	s, _ := status.FromError(err)
	message := s.Message()
	if len(message) > errorTextMax {
		message = message[:errorTextMax]
	}
	return fmt.Sprintf("%s | %s", s.Code(), message)
}

// everything is a Range over all keys.
func everything() *pb.RangeRequest {
	return &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
}

func put(key, value string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
		RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)},
	}}
}

func deleteRange(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)},
	}}
}

func rangeAt(key string, revision int64) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{
		RequestRange: &pb.RangeRequest{Key: []byte(key), Revision: revision},
	}}
}

func nested(txn *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn}}
}

func then(ops ...*pb.RequestOp) *pb.TxnRequest {
	return &pb.TxnRequest{Success: ops}
}
