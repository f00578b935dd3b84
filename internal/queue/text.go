package queue

import (
	"encoding/hex"
	"strconv"
	"time"
)

func itoa(i int) string     { return strconv.Itoa(i) }
func ftoa(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// clip keeps what strangers sent short where it is repeated to them.
func clip(s string) string {
	if len(s) <= 64 {
		return s
	}
	return s[:64] + "…"
}

// String is v as part of a key.
func (v Value) String() string {
	switch v.kind {
	case kindInt:
		return strconv.FormatInt(int64(v.num), 10)
	case kindUint:
		return strconv.FormatUint(v.num, 10)
	case kindNumber, kindText:
		return v.text
	case kindBytes:
		return hex.EncodeToString([]byte(v.text))
	case kindTime:
		return time.UnixMicro(int64(v.num)).UTC().Format(time.RFC3339Nano)
	}
	return ""
}
func i64toa(i int64) string { return strconv.FormatInt(i, 10) }
