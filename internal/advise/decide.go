package advise

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/perdure/perdure/internal/api"
)

// Limits of what is worth a word.
const (
	// large is a transaction that other members notice: it is sent, certified
	// and applied as one piece, and what comes after it waits.
	large = 10 << 20
	// fewWorkers cannot keep up with several members that write.
	fewWorkers = 4
	// waits is a queue of an applier that is behind, flow control or not.
	waits = 1000
)

// Decide says what to do about what was seen. It reads nothing but its
// arguments.
func Decide(a api.Advice) []api.AdviceFinding {
	d := &decision{}
	d.sizes(a)
	for _, m := range a.Members {
		if m.Error != "" {
			d.add(api.AdviceFinding{Kind: "unknown", Severity: "warning", Member: m.Name, Text: m.Name + " could not be asked: " + m.Error})
			continue
		}
		d.member(m, a.Seconds)
	}
	d.conflicts(a)
	slices.SortStableFunc(d.all, func(x, y api.AdviceFinding) int {
		return -cmp.Compare(x.Severity, y.Severity) // warning before info
	})
	return d.all
}

type decision struct{ all []api.AdviceFinding }

func (d *decision) add(f api.AdviceFinding) { d.all = append(d.all, f) }

func number(m api.AdviceMember, name string) int64 {
	n, _ := strconv.ParseInt(m.Settings[name], 10, 64)
	return n
}

// sizes is about single large transactions.
func (d *decision) sizes(a api.Advice) {
	if len(a.Largest) == 0 || a.Largest[0].Bytes < large {
		return
	}
	t := a.Largest[0]
	limit := int64(0)
	for _, m := range a.Members {
		if l := number(m, "group_replication_transaction_size_limit"); l > 0 && (limit == 0 || l < limit) {
			limit = l
		}
	}
	f := api.AdviceFinding{
		Kind: "transaction-size", Severity: "info", Subject: strings.Join(t.Tables, ", "),
		Text: fmt.Sprintf("the largest of the newest %d transactions changed %s in one piece of %s; the group waits for each such piece: change fewer rows at a time", a.Read.Transactions, cmp.Or(strings.Join(t.Tables, ", "), "a table"), size(t.Bytes)),
	}
	if limit > 0 && t.Bytes > limit/2 {
		f.Severity = "warning"
		f.Text += fmt.Sprintf("; beyond %s (group_replication_transaction_size_limit) it would be refused", size(limit))
	}
	d.add(f)
}

// member is about what one server counts and how it is set.
func (d *decision) member(m api.AdviceMember, seconds float64) {
	if m.Spilled >= 10 && m.Spilled*20 > m.Cached {
		cache := number(m, "binlog_cache_size")
		d.add(api.AdviceFinding{
			Kind: "transaction-size", Severity: "info", Member: m.Name, Subject: "binlog_cache_size",
			Text: fmt.Sprintf("%d of %d transactions on %s did not fit into binlog_cache_size (%s) and went through a file", m.Spilled, m.Cached, m.Name, size(cache)),
			SQL:  fmt.Sprintf("SET PERSIST binlog_cache_size = %d", min(max(4*cache, 128<<10), 16<<20)),
		})
	}
	if limit, ok := m.Settings["group_replication_transaction_size_limit"]; ok && limit == "0" {
		d.add(api.AdviceFinding{
			Kind: "setting", Severity: "warning", Member: m.Name, Subject: "group_replication_transaction_size_limit",
			Text: m.Name + " accepts transactions of any size: one of gigabytes can stop the group", SQL: "SET PERSIST group_replication_transaction_size_limit = 150000000",
		})
	}
	threshold := number(m, "group_replication_flow_control_applier_threshold")
	disabled := m.Settings["group_replication_flow_control_mode"] == "DISABLED"
	switch {
	case threshold > 0 && m.Queue >= threshold && !disabled:
		d.add(api.AdviceFinding{
			Kind: "flow-control", Severity: "warning", Member: m.Name,
			Text: fmt.Sprintf("%s has %d transactions waiting, its limit is %d: all members that write are slowed down to its pace", m.Name, m.Queue, threshold),
		})
	case threshold > 0 && m.Queue >= threshold:
		d.add(api.AdviceFinding{
			Kind: "flow-control", Severity: "warning", Member: m.Name, Subject: "group_replication_flow_control_mode",
			Text: fmt.Sprintf("%s has %d transactions waiting and flow control is off: its reads grow older, and it would take over late", m.Name, m.Queue),
			SQL:  "SET PERSIST group_replication_flow_control_mode = QUOTA",
		})
	}
	if workers := number(m, "replica_parallel_workers"); m.Queue >= min(waits, max(threshold, 1)) && workers < fewWorkers {
		d.add(api.AdviceFinding{
			Kind: "flow-control", Severity: "warning", Member: m.Name, Subject: "replica_parallel_workers",
			Text: fmt.Sprintf("%s applies with %d workers and is behind", m.Name, workers), SQL: "SET PERSIST replica_parallel_workers = 8",
		})
	}
	if t := m.Throttled; t != nil && (t.Now > 0 || t.Times > 0) {
		f := api.AdviceFinding{
			Kind: "flow-control", Severity: "info", Member: m.Name,
			Text: fmt.Sprintf("transactions on %s were held back %d times, %.1f s in all, for members that are slower", m.Name, t.Times, t.Seconds),
		}
		if t.Now > 0 {
			f.Severity = "warning"
			f.Text += fmt.Sprintf("; %d are now", t.Now)
		}
		d.add(f)
	}
	if rate := float64(m.NewConflicts) / max(seconds, 1); rate > 1 {
		d.add(api.AdviceFinding{
			Kind: "conflicts", Severity: "warning", Member: m.Name,
			Text: fmt.Sprintf("%.1f transactions a second lose certification on %s", rate, m.Name),
		})
	}
}

// conflicts is about tables that several members change at once.
func (d *decision) conflicts(a api.Advice) {
	all := 0
	for _, t := range a.Tables {
		all += t.Lost
	}
	for _, t := range a.Tables {
		if t.Lost < 2 || t.Lost*10 < all {
			continue
		}
		f := api.AdviceFinding{
			Kind: "conflicts", Severity: "warning", Subject: t.Table,
			Text: fmt.Sprintf("%d of %d lost transactions that sessions remember changed %s (%s)", t.Lost, all, t.Table, short(t.Statement)),
		}
		if len(t.Members) > 1 {
			f.Text += ": let it be written through one member (perdure proxy writers 1), or spread its hot rows"
		} else {
			f.Text += ": its hot rows are changed by several clients, or beside another member; keep such transactions short"
		}
		d.add(f)
	}
}

func short(s string) string {
	if r := []rune(s); len(r) > 80 {
		return string(r[:79]) + "…"
	}
	return s
}

func size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
