package outcome

import (
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/mysql/wire"
)

// Commands that ask for a binary log, and what they are told.
const (
	comDump     = 0x12
	comDumpGTID = 0x1e

	dumpNoWait = 0x01 // end where the log ends
	dumpGTID   = 0x04
)

// dumpWithout hands every transaction of the server's logs that is not in known
// to s, up to where they end now. The server walks through the whole file that
// the first of them is in. The line is of no more use afterwards.
func (l *line) dumpWithout(known gtid.Set, s *skimmer) error {
	encoded := appendSet(nil, known)
	p := []byte{comDumpGTID}
	p = binary.LittleEndian.AppendUint16(p, dumpNoWait|dumpGTID)
	p = binary.LittleEndian.AppendUint32(p, 0) // no replica: the server keeps no list of us
	p = binary.LittleEndian.AppendUint32(p, 0) // no file name
	p = binary.LittleEndian.AppendUint64(p, 4)
	p = binary.LittleEndian.AppendUint32(p, uint32(len(encoded))) //nolint:gosec // far below 4 GiB
	return l.dump(append(p, encoded...), s)
}

// dumpFrom does the same with all that is behind a position, which is found at
// once.
func (l *line) dumpFrom(at position, s *skimmer) error {
	p := []byte{comDump}
	p = binary.LittleEndian.AppendUint32(p, uint32(at.offset)) //nolint:gosec // see skimmer.move
	p = binary.LittleEndian.AppendUint16(p, dumpNoWait)
	p = binary.LittleEndian.AppendUint32(p, 0)
	return l.dump(append(p, at.file...), s)
}

func (l *line) dump(command []byte, s *skimmer) error {
	// The server shall know that we understand whatever checksums its log has.
	if _, err := l.rows("SET @source_binlog_checksum = @@GLOBAL.binlog_checksum, @master_binlog_checksum = @@GLOBAL.binlog_checksum"); err != nil {
		return err
	}
	row, err := l.row("SELECT @@GLOBAL.binlog_checksum", 1)
	if err != nil {
		return err
	}
	if row[0] != "NONE" { // until the log itself says what it has
		s.sum = checksumSize
	}
	if err := l.conn.Write(wire.AppendPacket(nil, 0, command)); err != nil {
		return err
	}
	stream := &packets{conn: l.conn}
	for {
		over, err := l.event(stream, s)
		if err != nil || over {
			return err
		}
	}
}

// event reads the next event, or the end of the log.
func (l *line) event(p *packets, s *skimmer) (over bool, err error) {
	p.next()
	var first [1]byte
	if _, err := io.ReadFull(p, first[:]); err != nil {
		return false, err
	}
	switch {
	case first[0] == 0xfe && p.left < 8:
		return true, nil
	case first[0] == 0xff:
		rest, err := io.ReadAll(io.LimitReader(p, 1<<10))
		if err != nil {
			return false, err
		}
		return false, wire.ParseErr(append(first[:], rest...))
	case first[0] != 0:
		return false, errMalformed
	}
	return false, s.event(p)
}

// packetMost is the size of a packet that is continued in the next.
const packetMost = 1<<24 - 1

// packets reads what a server sent as one piece, in however many packets. Of a
// row that is a gigabyte long it holds no more than the connection's buffer.
type packets struct {
	conn  *wire.Conn
	left  int  // of the packet that is being read
	more  bool // another packet follows
	limit time.Time
}

// next begins the next piece. The one before was read to its end.
func (p *packets) next() { p.left, p.more = 0, true }

func (p *packets) Read(into []byte) (int, error) {
	for p.left == 0 {
		if !p.more {
			return 0, io.EOF
		}
		if now := time.Now(); p.limit.Sub(now) < quietMost/2 {
			p.limit = now.Add(quietMost)
			p.conn.SetReadDeadline(p.limit)
		}
		if err := p.conn.Need(4); err != nil {
			return 0, broken(err)
		}
		h := p.conn.Buffered()
		p.left = int(h[0]) | int(h[1])<<8 | int(h[2])<<16
		p.more = p.left == packetMost
		p.conn.Advance(4)
	}
	if err := p.conn.Need(1); err != nil {
		return 0, broken(err)
	}
	have := p.conn.Buffered()
	n := copy(into, have[:min(p.left, len(have))])
	p.left -= n
	p.conn.Advance(n)
	return n, nil
}

// broken keeps the end of a connection apart from the end of an event.
func broken(err error) error {
	if errors.Is(err, io.EOF) {
		return errCut
	}
	return err
}

var errCut = errors.New("the connection was cut")

// appendSet writes a set as a dump is told it. Tags are understood since 8.3
// only, and so is the form that has room for them.
func appendSet(b []byte, s gtid.Set) []byte {
	tagged := false
	for _, source := range s.Sources() {
		tagged = tagged || !source.Tag.IsZero()
	}
	count := uint64(len(s.Sources()))
	if tagged {
		count = 1<<56 | count<<8 | 1
	}
	b = binary.LittleEndian.AppendUint64(b, count)
	var of *gtid.Source
	var spans uint64
	var at int // where the number of spans of this source is written
	for r := range s.Ranges() {
		if of == nil || *of != r.Source {
			of, spans = &r.Source, 0
			b = append(b, r.Source.UUID[:]...)
			if tagged {
				tag := r.Source.Tag.String()
				b = append(append(b, byte(len(tag)<<1)), tag...)
			}
			at = len(b)
			b = binary.LittleEndian.AppendUint64(b, 0)
		}
		spans++
		binary.LittleEndian.PutUint64(b[at:], spans)
		b = binary.LittleEndian.AppendUint64(b, r.First)
		b = binary.LittleEndian.AppendUint64(b, r.Last+1)
	}
	return b
}
