package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/hashicorp/yamux"
)

// serveYamux accepts one connection at a unix socket. It opens a stream, on which it says hello and repeats what it gets
// until that ends, and does the same on every stream that the other side opens, without the hello.
func serveYamux(path string) {
	listener, err := net.Listen("unix", path)
	exitOn(err)
	fmt.Println("listening")
	connection, err := listener.Accept()
	exitOn(err)
	config := yamux.DefaultConfig()
	config.KeepAliveInterval = 20 * time.Millisecond
	session, err := yamux.Server(connection, config)
	exitOn(err)
	stream, err := session.Open()
	exitOn(err)
	_, err = stream.Write([]byte("hello\n"))
	exitOn(err)
	go echo(stream)
	for {
		stream, err := session.Accept()
		if err != nil {
			fmt.Println("ended:", err)
			return
		}
		go echo(stream)
	}
}

func echo(stream net.Conn) {
	_, err := io.Copy(stream, stream)
	fmt.Println("stream:", err)
	stream.Close()
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
