package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/route"
)

// stuck is how old the newest View may be before the process is called dead:
// the watcher makes one ten times a second, whatever the servers do. A process
// that is restarted for less would make an overload worse.
const stuck = time.Minute

// Readiness says whether one role of this node does its work.
type Readiness struct {
	Role  string
	Check func(context.Context) error
}

func (s *Server) readyRoutes() {
	s.handle("GET /livez", access.Nobody, "Whether this process works at all; if not, restart it", s.live)
	s.handle("GET /readyz", access.Nobody, "Whether this node does what it is for: 200 or 503; ?role=NAME asks one role, ?verbose lists all", s.ready)
}

// live says whether this process makes Views. A View of no answers is one too.
func (s *Server) live(w http.ResponseWriter, _ *http.Request) {
	if at := s.Watch.View().At; !at.IsZero() && time.Since(at) > stuck {
		http.Error(w, fmt.Sprintf("the watcher stands still for %s", time.Since(at).Round(time.Second)), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// readiness are the roles of this node. Each depends on what it alone needs: a
// proxy goes on without a control store.
func (s *Server) readiness() []Readiness {
	all := []Readiness{
		{"control", func(ctx context.Context) error {
			if _, err := s.Group.Cluster(ctx); err != nil {
				return errors.New("the control store does not answer")
			}
			return nil
		}},
		{"watch", func(context.Context) error {
			if at := s.Watch.View().At; time.Since(at) > 3*time.Second {
				return errors.New("there is no View younger than 3 s")
			}
			return nil
		}},
		{"events", func(ctx context.Context) error {
			if _, err := s.Events.Range(ctx); err != nil {
				return errors.New("the stream of events does not answer")
			}
			return nil
		}},
	}
	if s.Proxy != nil {
		all = append(all, Readiness{"proxy", func(context.Context) error {
			// One that takes reads is of use though nobody takes writes.
			if err := s.Proxy.Health(route.Read); err != nil {
				return err
			}
			return nil
		}})
	}
	if s.Queue != nil {
		all = append(all, Readiness{"queue", func(ctx context.Context) error {
			if _, err := s.Queue.Status(ctx); err != nil {
				return errors.New("the log of the write queue does not answer")
			}
			return nil
		}})
	}
	return all
}

// ready asks the roles, each with a limit, so that it answers in time whatever
// hangs.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	all := s.readiness()
	if want := q.Get("role"); want != "" {
		i := slices.IndexFunc(all, func(one Readiness) bool { return one.Role == want })
		if i < 0 {
			http.Error(w, "this node has no role "+want, http.StatusNotFound)
			return
		}
		all = all[i : i+1]
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	answers := make(chan string, len(all))
	for _, one := range all {
		go func() { // ends with its check, which has ctx
			if err := one.Check(ctx); err != nil {
				answers <- "not ready: " + one.Role + ": " + err.Error()
				return
			}
			answers <- "ready: " + one.Role
		}()
	}
	var lines []string
	good := true
	for range all {
		line := <-answers
		if strings.HasPrefix(line, "not ") {
			good = false
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	if !good {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if _, verbose := q["verbose"]; !verbose {
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "ready") })
		if good {
			lines = []string{"ok"}
		}
	}
	_, _ = w.Write([]byte(strings.Join(lines, "\n") + "\n"))
}
