package mysqld

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// greeted says whether a server at the address is ready for clients: it answers
// a connection with the first packet of the protocol. A frozen server accepts
// connections too, but never greets; one still starting does not listen.
func greeted(ctx context.Context, network, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	var packet [7]byte // length, sequence, then protocol version, or 0xff and an error code
	if _, err := io.ReadFull(conn, packet[:]); err != nil {
		return err
	}
	switch code := binary.LittleEndian.Uint16(packet[5:]); {
	case packet[4] == 10:
		return nil
	case packet[4] == 0xff && (code == errTooManyConnections || code == errHostNotAllowed):
		return nil
	case packet[4] == 0xff:
		return fmt.Errorf("the server answers with error %d", code)
	}
	return errors.New("the answer is not that of a MySQL server")
}

// Answers that turn us away but prove that the server is at work. The second one
// comes where no account may log in over TCP, as with only root@localhost.
const (
	errTooManyConnections = 1040
	errHostNotAllowed     = 1130
)

// usable waits until the server greets on its socket, which only it can own,
// and on its port. It gives up when ctx ends or the process does.
func usable(ctx context.Context, p *process, socket, address string) error {
	const every = 25 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := greeted(ctx, "unix", socket)
		if err == nil {
			err = greeted(ctx, "tcp", address)
		}
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return errors.New(p.exit.String())
		case <-ctx.Done():
			return fmt.Errorf("it is not usable yet: %w (%w)", err, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
