package wire

import "encoding/binary"

// Column is what a result says about one of its columns.
type Column struct {
	Name     string
	Charset  uint16
	Length   uint32
	Type     byte
	Flags    uint16
	Decimals byte
}

// ParseColumn reads a column definition.
func ParseColumn(p []byte) (c Column, err error) {
	for i := range 6 {
		s, n := LenEncBytes(p)
		if n == 0 {
			return c, ErrMalformed
		}
		if i == 4 {
			c.Name = string(s)
		}
		p = p[n:]
	}
	if len(p) < 13 {
		return c, ErrMalformed
	}
	c.Charset = binary.LittleEndian.Uint16(p[1:])
	c.Length = binary.LittleEndian.Uint32(p[3:])
	c.Type = p[7]
	c.Flags = binary.LittleEndian.Uint16(p[8:])
	c.Decimals = p[10]
	return c, nil
}

// ParseRow reads one row of a text result; a nil field is NULL. The fields point
// into p.
func ParseRow(p []byte, columns int) ([][]byte, error) {
	row := make([][]byte, columns)
	for i := range row {
		if len(p) > 0 && p[0] == 0xfb {
			p = p[1:]
			continue
		}
		s, n := LenEncBytes(p)
		if n == 0 {
			return nil, ErrMalformed
		}
		row[i], p = s, p[n:]
	}
	return row, nil
}

// Answer is a small result, read whole. It is for our own questions only.
type Answer struct {
	OK      OK
	Columns []Column
	Rows    [][][]byte
}

// ReadAnswer reads the answer to a text query of our own, at most limit bytes of
// it. An ERR comes back as *ServerError and leaves the connection usable.
func (c *Conn) ReadAnswer(caps uint32, limit int) (*Answer, error) {
	left := limit
	next := func() ([]byte, error) {
		p, _, err := c.ReadPacket(left)
		left -= len(p) + 4
		return p, err
	}
	p, err := next()
	if err != nil {
		return nil, err
	}
	if len(p) == 0 {
		return nil, ErrMalformed
	}
	a := &Answer{}
	switch p[0] {
	case 0xff:
		return nil, ParseErr(p)
	case 0x00, 0xfe:
		ok, err := ParseOK(append([]byte(nil), p...), caps)
		a.OK = ok
		return a, err
	}
	count, n := LenEnc(p)
	if n == 0 || count > 4096 {
		return nil, ErrMalformed
	}
	for range count {
		if p, err = next(); err != nil {
			return nil, err
		}
		col, err := ParseColumn(p)
		if err != nil {
			return nil, err
		}
		a.Columns = append(a.Columns, col)
	}
	if caps&ClientDeprecateEOF == 0 {
		if _, err = next(); err != nil {
			return nil, err
		}
	}
	for {
		if p, err = next(); err != nil {
			return nil, err
		}
		if len(p) > 0 && p[0] == 0xff {
			return nil, ParseErr(p)
		}
		if len(p) > 0 && p[0] == 0xfe && (len(p) < 9 || caps&ClientDeprecateEOF != 0 && len(p) < maxPayload) {
			a.OK, err = ParseOK(append([]byte(nil), p...), caps)
			return a, err
		}
		row, err := ParseRow(append([]byte(nil), p...), len(a.Columns))
		if err != nil {
			return nil, err
		}
		a.Rows = append(a.Rows, row)
	}
}
