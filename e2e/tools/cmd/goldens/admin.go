package main

import (
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func (p *probe) askMaintenance() {
	status, err := p.Maintenance.Status(p.ctx, &pb.StatusRequest{})
	p.answer("status", outcome(err), " ", status)
	defragmented, err := p.Maintenance.Defragment(p.ctx, &pb.DefragmentRequest{})
	p.answer("defrag", outcome(err), " hdr=", defragmented.GetHeader())
	_, err = p.Maintenance.MoveLeader(p.ctx, &pb.MoveLeaderRequest{TargetID: 1})
	p.answer("moveleader bad", outcome(err))
	for _, request := range []*pb.DowngradeRequest{
		{Version: "3.6"},
		{Version: "3.5"},
		{Version: "x"},
		{Action: pb.DowngradeRequest_CANCEL},
		{Action: 9},
	} {
		response, err := p.Maintenance.Downgrade(p.ctx, request)
		p.answer(fmt.Sprint("downgrade ", request), outcome(err), " ", response)
	}
	alarms, err := p.Maintenance.Alarm(p.ctx, &pb.AlarmRequest{})
	p.answer("alarm get", outcome(err), " ", alarms)
}

func (p *probe) askCluster() {
	list, err := p.Cluster.MemberList(p.ctx, &pb.MemberListRequest{Linearizable: true})
	p.answer("memberlist", outcome(err), " ", list)
	self := &pb.Member{}
	if len(list.GetMembers()) > 0 {
		self = list.Members[0]
	}
	_, err = p.Cluster.MemberAdd(p.ctx, &pb.MemberAddRequest{PeerURLs: []string{"bad"}})
	p.answer("memberadd bad url", outcome(err))
	_, err = p.Cluster.MemberAdd(p.ctx, &pb.MemberAddRequest{PeerURLs: self.PeerURLs})
	p.answer("memberadd dup url", outcome(err))
	_, err = p.Cluster.MemberRemove(p.ctx, &pb.MemberRemoveRequest{ID: 1})
	p.answer("memberremove unknown", outcome(err))
	_, err = p.Cluster.MemberPromote(p.ctx, &pb.MemberPromoteRequest{ID: 1})
	p.answer("promote unknown", outcome(err))
	_, err = p.Cluster.MemberPromote(p.ctx, &pb.MemberPromoteRequest{ID: self.ID})
	p.answer("promote voter", outcome(err))
	_, err = p.Cluster.MemberRemove(p.ctx, &pb.MemberRemoveRequest{ID: self.ID})
	p.answer("memberremove last", outcome(err))
}

func (p *probe) askAuth() {
	status, err := p.Auth.AuthStatus(p.ctx, &pb.AuthStatusRequest{})
	p.answer("authstatus", outcome(err), " ", status)
	_, err = p.Auth.Authenticate(p.ctx, &pb.AuthenticateRequest{Name: "x", Password: "y"})
	p.answer("authenticate disabled", outcome(err))
	_, err = p.Auth.AuthEnable(p.ctx, &pb.AuthEnableRequest{})
	p.answer("authenable no root", outcome(err))
	_, err = p.Auth.UserGet(p.ctx, &pb.AuthUserGetRequest{Name: "x"})
	p.answer("userget missing", outcome(err))
	_, err = p.Auth.RoleGet(p.ctx, &pb.AuthRoleGetRequest{Role: "x"})
	p.answer("roleget missing", outcome(err))
	_, err = p.Auth.UserAdd(p.ctx, &pb.AuthUserAddRequest{Password: "p"})
	p.answer("useradd empty", outcome(err))
	// bcrypt takes 72 bytes.
	tooLong := &pb.AuthUserAddRequest{Name: "long", Password: strings.Repeat("p", 73)}
	_, err = p.Auth.UserAdd(p.ctx, tooLong)
	p.answer("useradd 73B pw", outcome(err))
	_, err = p.Auth.RoleGrantPermission(p.ctx, &pb.AuthRoleGrantPermissionRequest{Name: "r"})
	p.answer("grantperm nil", outcome(err))
}
