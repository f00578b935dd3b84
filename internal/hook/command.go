package hook

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/event"
)

// exitHopeless is the exit code with which a command says: do not try again.
const exitHopeless = 99

// lingering is how long a command's output is waited for after it has ended:
// a process it left behind may hold the other end.
const lingering = time.Second

func (h *Hook) command(ctx context.Context, id string, attempt int, e event.Event) (string, error) {
	input, err := json.Marshal(e)
	if err != nil {
		return "", &hopelessError{err}
	}
	environ, err := h.environ(id, attempt, e)
	if err != nil {
		return "", err
	}
	as, err := h.credential()
	if err != nil {
		return "", err
	}
	out := &head{limit: cmp.Or(h.cfg.Output, defaultOutput)}
	cmd := exec.CommandContext(ctx, h.cfg.Command[0], h.cfg.Command[1:]...) //nolint:gosec // the operator's own command, by configuration
	cmd.Env, cmd.Dir = environ, cmp.Or(h.cfg.Dir, "/")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(append(input, '\n')), out, out
	cmd.WaitDelay = lingering
	apart(cmd, as)
	cmd.Cancel = func() error { return killGroup(cmd) }
	// The kernel kills the command when the thread that started it ends (see
	// apart); so the thread must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start it: %w", err)
	}
	err = cmd.Wait()
	_ = killGroup(cmd) // whom it left behind
	receipt := h.scrub(out.String(), environ)
	if errors.Is(err, exec.ErrWaitDelay) { // it ended well and left somebody behind with its output
		err = nil
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return receipt, nil
	case ctx.Err() != nil:
		return receipt, fmt.Errorf("killed: %w", context.Cause(ctx))
	case errors.As(err, &exit) && exit.ExitCode() == exitHopeless:
		return receipt, &hopelessError{fmt.Errorf("it ended with exit code %d: do not try again", exitHopeless)}
	}
	return receipt, err
}

// environ is all the command gets to see of ours.
func (h *Hook) environ(id string, attempt int, e event.Event) ([]string, error) {
	out := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/",
		"PERDURE_ID=" + id, "PERDURE_ATTEMPT=" + strconv.Itoa(attempt), "PERDURE_HOOK=" + h.cfg.Name,
		"PERDURE_KIND=" + string(e.Kind), "PERDURE_CLUSTER=" + e.Cluster, "PERDURE_MEMBER=" + e.Member, "PERDURE_SEVERITY=" + string(e.Severity),
	}
	for _, name := range slices.Sorted(maps.Keys(h.cfg.Secrets)) {
		value, err := h.needs.Secret(h.cfg.Secrets[name])
		if err != nil {
			return nil, fmt.Errorf("secrets.%s: %w", name, err)
		}
		out = append(out, name+"="+value)
	}
	return slices.DeleteFunc(out, func(v string) bool { return strings.ContainsRune(v, 0) }), nil
}

// scrub takes the secrets a command printed out of what is kept of it.
func (h *Hook) scrub(text string, environ []string) string {
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if _, secret := h.cfg.Secrets[name]; secret && len(value) >= 4 {
			text = strings.ReplaceAll(text, value, "***")
		}
	}
	return text
}

// head keeps the beginning of what is written and counts the rest.
type head struct {
	limit int
	kept  []byte
	lost  int64
}

// Write implements io.Writer. It never fails: a command is not killed for
// talking much.
func (h *head) Write(b []byte) (int, error) {
	room := min(h.limit-len(h.kept), len(b))
	h.kept = append(h.kept, b[:room]...)
	h.lost += int64(len(b) - room)
	return len(b), nil
}

func (h *head) String() string {
	text := strings.ToValidUTF8(strings.TrimSpace(string(h.kept)), "?")
	if h.lost > 0 {
		text += fmt.Sprintf("… (%d bytes more)", h.lost)
	}
	return text
}
