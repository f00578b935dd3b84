package outcome

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/mysql/wire"
)

func number(i int) string { return strconv.Itoa(i) }

// made is an event as a server writes it.
func made(kind byte, body []byte, sum int) []byte {
	e := make([]byte, headerSize, headerSize+len(body)+sum)
	e[4] = kind
	binary.LittleEndian.PutUint32(e[9:], uint32(headerSize+len(body)+sum))
	return append(append(e, body...), make([]byte, sum)...)
}

func statement(text string) []byte {
	b := make([]byte, 13, 64)
	b[8] = 4                                  // length of the schema's name
	binary.LittleEndian.PutUint16(b[11:], 10) // and of the session's variables
	b = append(append(b, make([]byte, 10)...), "test\x00"...)
	return append(b, text...)
}

func named(n uint64) []byte {
	return binary.LittleEndian.AppendUint64(append([]byte{0}, bytes.Repeat([]byte{0x99}, 16)...), n)
}

func format(checksum byte) []byte {
	return append(append(make([]byte, 2+50+4+1+40), checksum), make([]byte, checksumSize)...)
}

func packed(t testing.TB, compression uint64, events ...[]byte) []byte {
	plain := slices.Concat(events...)
	b := wire.AppendLenEnc(nil, payloadCompression)
	b = wire.AppendLenEnc(wire.AppendLenEnc(b, uint64(len(wire.AppendLenEnc(nil, compression)))), compression)
	b = wire.AppendLenEnc(b, payloadEnd)
	if compression == compressionNone {
		return append(b, plain...)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(plain, b)
}

func TestMarksAndNamesAreReadFromALog(t *testing.T) {
	t.Parallel()
	for _, sum := range []int{0, checksumSize} {
		var marks []string
		s := &skimmer{mark: func(m string) { marks = append(marks, m) }}
		defer s.close()
		for _, e := range [][]byte{
			made(typeRotate, append([]byte{4, 0, 0, 0, 0, 0, 0, 0}, "binlog.000007"...), 0),
			made(typeFormat, format(byte(sum/checksumSize)), 0),
			made(typeGTID, named(1), sum),
			made(typeQuery, statement("BEGIN"), sum),
			made(typeQuery, statement("SAVEPOINT `perdure_a`"), sum),
			made(30, make([]byte, 300_000), sum), // rows
			made(typeGTID, named(2), sum),
			made(typeQuery, statement("SAVEPOINT \"perdure_b\""), sum),
			made(typeQuery, statement("SAVEPOINT perdure_c"), sum),
			made(typeQuery, statement("SAVEPOINT `other`"), sum),
			made(typeQuery, statement("SAVEPOINT `perdure_cut"), sum),
			made(typeQuery, statement("INSERT INTO t VALUES ('SAVEPOINT `perdure_x`')"), sum),
			made(typeGTID, named(3), sum),
			made(typePayload, packed(t, compressionZstd,
				made(typeQuery, statement("BEGIN"), 0), made(30, make([]byte, 500_000), 0), made(typeQuery, statement("SAVEPOINT `perdure_d`"), 0)), sum),
			made(typeGTID, named(4), sum),
			made(typePayload, packed(t, compressionNone, made(typeQuery, statement("SAVEPOINT `perdure_e`"), 0)), sum),
			made(typeGTID, named(7), sum),
		} {
			if err := s.event(bytes.NewReader(e)); err != nil {
				t.Fatalf("type %d: %v", e[4], err)
			}
		}
		if want := []string{"perdure_a", "perdure_b", "perdure_c", "perdure_d", "perdure_e"}; !slices.Equal(marks, want) {
			t.Errorf("checksums of %d bytes: %q", sum, marks)
		}
		uuid := "99999999-9999-9999-9999-999999999999"
		if got := s.read(gtid.Set{}); !got.Equal(gtid.MustParse(uuid + ":1-4")) {
			t.Errorf("read %s: the last transaction may be cut off", got)
		}
		if got := s.read(gtid.MustParse(uuid + ":1-7")); !got.Equal(gtid.MustParse(uuid + ":1-4:7")) {
			t.Errorf("read %s: the last transaction was executed", got)
		}
	}
}

func TestNamesAreCollectedInAnyOrder(t *testing.T) {
	t.Parallel()
	var n names
	source := gtid.MustParse(uuid9 + ":1").Sources()[0]
	for i := uint64(3000); i > 0; i -= 2 { // the even ones, backwards
		n.add(gtid.GTID{Source: source, Number: i})
	}
	for i := uint64(1); i < 3000; i += 2 {
		n.add(gtid.GTID{Source: source, Number: i})
	}
	if got := n.set(); !got.Equal(gtid.MustParse(uuid9 + ":1-3000")) {
		t.Error(got)
	}
}

func TestASetIsToldWithTagsOnlyWhereItHasSome(t *testing.T) {
	t.Parallel()
	if b := appendSet(nil, gtid.MustParse(uuid9+":1-3:5")); len(b) != 8+16+8+2*16 || b[0] != 1 {
		t.Errorf("%x", b)
	}
	if b := appendSet(nil, gtid.MustParse(uuid9+":1-3:x:5")); b[7] != 1 || b[1] != 2 {
		t.Errorf("%x", b)
	}
}

func TestThePlaceInALogIsKnownUnlessItsFileIsTooLarge(t *testing.T) {
	t.Parallel()
	s := &skimmer{at: position{"binlog.000007", 4}}
	s.move(200)
	if want := (position{"binlog.000007", 200}); s.at != want {
		t.Error(s.at)
	}
	s.move(100) // beyond 4 GiB
	s.move(300)
	if s.at.file != "" {
		t.Error(s.at)
	}
}

// FuzzEvent reads what a server may send: any bytes at all.
func FuzzEvent(f *testing.F) {
	for _, sum := range []int{0, 4} {
		f.Add(made(typeGTID, named(1), sum), sum)
		f.Add(made(typeQuery, statement("SAVEPOINT `perdure_a`"), sum), sum)
		f.Add(made(typePayload, packed(f, compressionZstd, made(typeQuery, statement("SAVEPOINT `perdure_d`"), 0)), sum), sum)
		f.Add(made(typePayload, packed(f, compressionNone, made(typeQuery, statement("SAVEPOINT `perdure_d`"), 0)), sum), sum)
		f.Add(made(typeTagged, []byte{2, 60, 8, 0, 0, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 4, 6, 2, 'x'}, sum), sum)
	}
	f.Add(made(typeFormat, format(1), 0), 0)
	f.Add(made(typeRotate, append(make([]byte, 8), "binlog.000007"...), 0), 0)
	f.Fuzz(func(t *testing.T, event []byte, sum int) {
		s := &skimmer{sum: min(max(sum, 0), checksumSize), mark: func(m string) {
			if len(m) <= len(Prefix)-1 || m[:len(Prefix)] != Prefix {
				t.Errorf("mark %q", m)
			}
		}}
		defer s.close()
		r := bytes.NewReader(event)
		if err := s.event(r); err == nil && r.Len() != 0 {
			t.Errorf("%d bytes were left unread", r.Len())
		}
		s.read(gtid.Set{})
	})
}
