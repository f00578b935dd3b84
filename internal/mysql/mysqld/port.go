package mysqld

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
)

// ports are those of the block that is given away now. What keeps other processes
// off a block is a UDP socket on its first port, which stays open: a port looks
// free until the server that was promised it listens, and while it is restarted.
var ports struct {
	sync.Mutex
	next, end int
	claims    []net.PacketConn
}

const portBlock = 64

// FreePort gives a loopback port that nobody listens on and that neither this
// process nor another was given by it before. It lies below the range from which
// the kernel takes the ports of outgoing connections: one of those would else
// occupy the port of a server that is down for a moment, and keep it from coming
// back.
func FreePort() (int, error) {
	low, high := 15000, ephemeralStart()
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		if ports.next == ports.end {
			first := low + portBlock*rand.IntN((high-low)/portBlock)
			claim, err := (&net.ListenConfig{}).ListenPacket(context.Background(), "udp", net.JoinHostPort(localhost, strconv.Itoa(first)))
			if err != nil {
				continue
			}
			ports.claims = append(ports.claims, claim)
			ports.next, ports.end = first+1, first+portBlock
		}
		port := ports.next
		ports.next++
		if free(port) {
			return port, nil
		}
	}
	return 0, errors.New("no free port was found in 1000 tries between " + strconv.Itoa(low) + " and " + strconv.Itoa(high))
}

func free(port int) bool {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(localhost, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// ephemeralStart is the first port the kernel uses for outgoing connections.
func ephemeralStart() int {
	first := 32768
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(text), &first)
	}
	if first < 20000 {
		return 32768 // somebody made the range that wide; there is no better place
	}
	return first
}
