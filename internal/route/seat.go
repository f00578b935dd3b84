package route

import "time"

// Doubted tells whether somebody had trouble with the member lately.
func (s *Seat) Doubted(now time.Time) bool { return s.doubted.Load() > now.UnixNano() }
