// A plugin for the tests, on the go-plugin that Debian packages: answers calls, calls its host back through the broker,
// serves through the broker, writes to its outputs, and ends in the ways that plugins end.
//
// The messages are protobuf's well-known wrappers, so that no code needs to be generated.
package main

import (
	"context"
	"fmt"
	"io/ioutil"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/golang/protobuf/proto"
	"github.com/golang/protobuf/ptypes/empty"
	"github.com/golang/protobuf/ptypes/wrappers"
	hclog "github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// go-plugin replaces os.Stdout and os.Stderr when it begins to serve; these are descriptors 1 and 2.
var stdout, stderr = os.Stdout, os.Stderr

type service struct {
	version uint32
	broker  *plugin.GRPCBroker
	logger  hclog.Logger

	sync.Mutex
	values map[string]string
}

type call func(s *service, ctx context.Context, decode func(interface{}) error) (proto.Message, error)

func text(value string) proto.Message { return &wrappers.StringValue{Value: value} }

// withText makes a method that takes a string.
func withText(do func(s *service, ctx context.Context, value string) (proto.Message, error)) call {
	return func(s *service, ctx context.Context, decode func(interface{}) error) (proto.Message, error) {
		var request wrappers.StringValue
		if err := decode(&request); err != nil {
			return nil, err
		}
		return do(s, ctx, request.Value)
	}
}

// withNumber makes a method that takes a number.
func withNumber(do func(s *service, ctx context.Context, value uint32) (proto.Message, error)) call {
	return func(s *service, ctx context.Context, decode func(interface{}) error) (proto.Message, error) {
		var request wrappers.UInt32Value
		if err := decode(&request); err != nil {
			return nil, err
		}
		return do(s, ctx, request.Value)
	}
}

var methods = map[string]call{
	// "key=value" is kept.
	"Put": withText(func(s *service, _ context.Context, value string) (proto.Message, error) {
		s.Lock()
		defer s.Unlock()
		words := strings.SplitN(value, "=", 2)
		s.values[words[0]] = words[1]
		return &empty.Empty{}, nil
	}),
	// The value of a key.
	"Get": withText(func(s *service, _ context.Context, key string) (proto.Message, error) {
		s.Lock()
		defer s.Unlock()
		value, found := s.values[key]
		if !found {
			return nil, status.Errorf(codes.NotFound, "no such key: %s", key)
		}
		return text(value), nil
	}),
	// The protocol version that was negotiated.
	"Version": withText(func(s *service, _ context.Context, _ string) (proto.Message, error) {
		return &wrappers.UInt32Value{Value: s.version}, nil
	}),
	// What the host answers to "question" at the id of the broker in "id question".
	"AskHost": withText(func(s *service, ctx context.Context, value string) (proto.Message, error) {
		var id uint32
		var question string
		if _, err := fmt.Sscan(value, &id, &question); err != nil {
			return nil, err
		}
		connection, err := s.broker.Dial(id)
		if err != nil {
			return nil, err
		}
		defer connection.Close()
		answer := new(wrappers.StringValue)
		err = connection.Invoke(ctx, "/ocishim.test.Host/Answer", text(question), answer)
		return answer, err
	}),
	// An id of the broker at which ocishim.test.Echo is served from now on.
	"Offer": withText(func(s *service, _ context.Context, _ string) (proto.Message, error) {
		id := s.broker.NextId()
		go s.broker.AcceptAndServe(id, func(options []grpc.ServerOption) *grpc.Server {
			server := grpc.NewServer(options...)
			server.RegisterService(described("ocishim.test.Echo", map[string]call{
				"Echo": withText(func(_ *service, _ context.Context, value string) (proto.Message, error) {
					return text(value), nil
				}),
			}), s)
			return server
		})
		return &wrappers.UInt32Value{Value: id}, nil
	}),
	// "level message" is logged as go-plugin's plugins do it.
	"Log": withText(func(s *service, _ context.Context, value string) (proto.Message, error) {
		words := strings.SplitN(value, " ", 2)
		log := map[string]func(string, ...interface{}){
			"trace": s.logger.Trace, "debug": s.logger.Debug, "info": s.logger.Info, "warn": s.logger.Warn, "error": s.logger.Error,
		}[words[0]]
		log(words[1], "number", 7, "word", "some thing")
		return &empty.Empty{}, nil
	}),
	// Text for descriptor 2.
	"Stderr": withText(func(_ *service, _ context.Context, value string) (proto.Message, error) {
		_, err := stderr.WriteString(value)
		return &empty.Empty{}, err
	}),
	// So many bytes for descriptor 1.
	"Fill": withNumber(func(_ *service, _ context.Context, count uint32) (proto.Message, error) {
		_, err := stdout.WriteString(strings.Repeat("x", int(count)))
		return &empty.Empty{}, err
	}),
	// Exits with a status, before it answers.
	"Exit": withNumber(func(_ *service, _ context.Context, code uint32) (proto.Message, error) {
		os.Exit(int(code))
		return nil, nil
	}),
	// A variable of the environment.
	"Getenv": withText(func(_ *service, _ context.Context, name string) (proto.Message, error) {
		return text(os.Getenv(name)), nil
	}),
	// What a file holds: /proc/self/status tells users, groups and capabilities.
	"ReadFile": withText(func(_ *service, _ context.Context, path string) (proto.Message, error) {
		data, err := ioutil.ReadFile(path)
		return text(strings.ToValidUTF8(string(data), "?")), err
	}),
	// Connects to "network address" and hangs up.
	"Connect": withText(func(_ *service, ctx context.Context, value string) (proto.Message, error) {
		words := strings.SplitN(value, " ", 2)
		connection, err := new(net.Dialer).DialContext(ctx, words[0], words[1])
		if err == nil {
			err = connection.Close()
		}
		return &empty.Empty{}, err
	}),
	// So many bytes of memory are locked.
	"Mlock": withNumber(func(_ *service, _ context.Context, count uint32) (proto.Message, error) {
		return &empty.Empty{}, syscall.Mlock(make([]byte, count))
	}),
}

// described makes what grpc registers a service by.
func described(name string, methods map[string]call) *grpc.ServiceDesc {
	description := &grpc.ServiceDesc{ServiceName: name, HandlerType: (*interface{})(nil)}
	for name, do := range methods {
		do := do
		handler := func(s interface{}, ctx context.Context, decode func(interface{}) error, _ grpc.UnaryServerInterceptor) (interface{}, error) {
			return do(s.(*service), ctx, decode)
		}
		description.Methods = append(description.Methods, grpc.MethodDesc{MethodName: name, Handler: handler})
	}
	return description
}

// GRPCServer is called by go-plugin when it begins to serve.
func (s *service) GRPCServer(broker *plugin.GRPCBroker, server *grpc.Server) error {
	s.broker = broker
	server.RegisterService(described("ocishim.test.Plugin", methods), s)
	return nil
}

// GRPCClient is for hosts.
func (s *service) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (interface{}, error) {
	return nil, fmt.Errorf("this is a plugin")
}

type served struct {
	plugin.NetRPCUnsupportedPlugin
	*service
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "yamux" {
		serveYamux(os.Args[2])
		return
	}
	logger := hclog.New(&hclog.LoggerOptions{Name: "test", Level: hclog.Trace, Output: stderr, JSONFormat: true})
	versions := map[int]plugin.PluginSet{}
	for _, version := range []int{2, 3} {
		s := &service{version: uint32(version), logger: logger, values: map[string]string{}}
		versions[version] = plugin.PluginSet{"test": &served{service: s}}
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			MagicCookieKey: "OCISHIM_TEST_PLUGIN", MagicCookieValue: "d1f06e1c9a6b",
		},
		VersionedPlugins: versions,
		GRPCServer:       plugin.DefaultGRPCServer,
		Logger:           logger,
	})
}
