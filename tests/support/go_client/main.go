// A client of the first API on the gRPC that Debian packages. Its messages are written by hand, with the numbers and types of
// containerd's api.proto: what they have in common with the server is the wire alone.
//
//	go-client SOCKET state
//	go-client SOCKET events COUNT
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/golang/protobuf/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type Empty struct{}

type User struct {
	Uid            uint32   `protobuf:"varint,1,opt,name=uid,proto3"`
	Gid            uint32   `protobuf:"varint,2,opt,name=gid,proto3"`
	AdditionalGids []uint32 `protobuf:"varint,3,rep,packed,name=additionalGids,proto3"`
}

type Process struct {
	Pid      uint32   `protobuf:"varint,1,opt,name=pid,proto3"`
	Terminal bool     `protobuf:"varint,2,opt,name=terminal,proto3"`
	User     *User    `protobuf:"bytes,3,opt,name=user,proto3"`
	Args     []string `protobuf:"bytes,4,rep,name=args,proto3"`
	Env      []string `protobuf:"bytes,5,rep,name=env,proto3"`
	Cwd      string   `protobuf:"bytes,6,opt,name=cwd,proto3"`
}

type Container struct {
	Id         string     `protobuf:"bytes,1,opt,name=id,proto3"`
	Name       string     `protobuf:"bytes,2,opt,name=name,proto3"`
	BundlePath string     `protobuf:"bytes,3,opt,name=bundlePath,proto3"`
	Processes  []*Process `protobuf:"bytes,4,rep,name=processes,proto3"`
	Status     string     `protobuf:"bytes,5,opt,name=status,proto3"`
}

type Machine struct {
	Id     string `protobuf:"bytes,1,opt,name=id,proto3"`
	Cpus   uint32 `protobuf:"varint,2,opt,name=cpus,proto3"`
	Memory uint64 `protobuf:"varint,3,opt,name=memory,proto3"`
}

type StateResponse struct {
	Containers []*Container `protobuf:"bytes,1,rep,name=containers,proto3"`
	Machine    *Machine     `protobuf:"bytes,2,opt,name=machine,proto3"`
}

type Checkpoint struct {
	Name        string `protobuf:"bytes,1,opt,name=name,proto3"`
	Exit        bool   `protobuf:"varint,2,opt,name=exit,proto3"`
	Tcp         bool   `protobuf:"varint,3,opt,name=tcp,proto3"`
	UnixSockets bool   `protobuf:"varint,4,opt,name=unixSockets,proto3"`
	Shell       bool   `protobuf:"varint,5,opt,name=shell,proto3"`
}

type Event struct {
	Type       string       `protobuf:"bytes,1,opt,name=type,proto3"`
	Id         string       `protobuf:"bytes,2,opt,name=id,proto3"`
	Status     uint32       `protobuf:"varint,3,opt,name=status,proto3"`
	BundlePath string       `protobuf:"bytes,4,opt,name=bundlePath,proto3"`
	Pid        uint32       `protobuf:"varint,5,opt,name=pid,proto3"`
	Signal     uint32       `protobuf:"varint,7,opt,name=signal,proto3"`
	Process    *Process     `protobuf:"bytes,8,opt,name=process,proto3"`
	Containers []*Container `protobuf:"bytes,9,rep,name=containers,proto3"`
	Checkpoint *Checkpoint  `protobuf:"bytes,10,opt,name=checkpoint,proto3"`
}

func (m *Empty) Reset()         { *m = Empty{} }
func (m *Empty) String() string { return proto.CompactTextString(m) }
func (*Empty) ProtoMessage()    {}

func (m *User) Reset()         { *m = User{} }
func (m *User) String() string { return proto.CompactTextString(m) }
func (*User) ProtoMessage()    {}

func (m *Process) Reset()         { *m = Process{} }
func (m *Process) String() string { return proto.CompactTextString(m) }
func (*Process) ProtoMessage()    {}

func (m *Container) Reset()         { *m = Container{} }
func (m *Container) String() string { return proto.CompactTextString(m) }
func (*Container) ProtoMessage()    {}

func (m *Machine) Reset()         { *m = Machine{} }
func (m *Machine) String() string { return proto.CompactTextString(m) }
func (*Machine) ProtoMessage()    {}

func (m *StateResponse) Reset()         { *m = StateResponse{} }
func (m *StateResponse) String() string { return proto.CompactTextString(m) }
func (*StateResponse) ProtoMessage()    {}

func (m *Checkpoint) Reset()         { *m = Checkpoint{} }
func (m *Checkpoint) String() string { return proto.CompactTextString(m) }
func (*Checkpoint) ProtoMessage()    {}

func (m *Event) Reset()         { *m = Event{} }
func (m *Event) String() string { return proto.CompactTextString(m) }
func (*Event) ProtoMessage()    {}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", status.Code(err), err)
		os.Exit(1)
	}
}

func run(words []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	dial := func(ctx context.Context, path string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	connection, err := grpc.DialContext(ctx, words[0], grpc.WithInsecure(), grpc.WithBlock(), grpc.WithContextDialer(dial))
	if err != nil {
		return err
	}
	defer connection.Close()
	out := json.NewEncoder(os.Stdout)
	if words[1] == "state" {
		var answer StateResponse
		if err := connection.Invoke(ctx, "/types.API/State", &Empty{}, &answer); err != nil {
			return err
		}
		return out.Encode(answer)
	}
	count, err := strconv.Atoi(words[2])
	if err != nil {
		return err
	}
	return events(metadata.AppendToOutgoingContext(ctx, "ocishim-resume-after", "0"), connection, out, count)
}

func events(ctx context.Context, connection *grpc.ClientConn, out *json.Encoder, count int) error {
	stream, err := connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/types.API/Events")
	if err != nil {
		return err
	}
	if err := stream.SendMsg(&Empty{}); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for ; count > 0; count-- {
		var event Event
		if err := stream.RecvMsg(&event); err != nil {
			return err
		}
		if err := out.Encode(event); err != nil {
			return err
		}
	}
	return nil
}
