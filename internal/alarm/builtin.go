package alarm

import (
	"time"

	"github.com/perdure/perdure/internal/event"
)

// Builtin are the alarms that are on without being asked for. docs/events.md
// says why each limit is what it is. When the watcher gives no Views, "watcher"
// and "quorum" say so; the others that rest on Views keep what they were.
var Builtin = []Rule{
	{
		Name: "member-away", Each: perMember, Severity: event.Warning, For: lasts(10 * time.Second), Hold: lasts(5 * time.Second),
		Where: `!member.stopped`, When: `member.state not in ["ONLINE", "RECOVERING"]`,
		Text: `{member.name} is {member.state}: {member.why}`,
	},
	{
		Name: "member-catching-up", Each: perMember, Severity: event.Warning,
		When: `member.state == "RECOVERING" and member.since > 1800`,
		Text: `{member.name} has been catching up for {int(member.since / 60)} minutes`,
	},
	{
		Name: "member-read-only", Each: perMember, Severity: event.Warning, For: lasts(2 * time.Minute),
		Where: `member.state == "ONLINE" and quorum == "yes" and mode == "multi-primary"`, When: `!member.writable`,
		Text: `{member.name} is ONLINE and accepts no writes: {member.why}`,
	},
	{
		Name: "quorum", Severity: event.Critical, For: lasts(2 * time.Second), Hold: lasts(5 * time.Second),
		When: `quorum in ["lost", "unsure"]`,
		Text: `the group's majority is {quorum}: writes block`,
	},
	{
		Name: "no-group", Severity: event.Critical, Missing: MissingKeep, For: lasts(5 * time.Second),
		Where: `!stopped and len(members) > 0`, When: `quorum == "none"`,
		Text: `no member is in a group: nothing can be read or written`,
	},
	{
		Name: "no-writer", Severity: event.Critical, Missing: MissingKeep, For: lasts(5 * time.Second),
		When: `quorum == "yes" and none(members, .writable)`,
		Text: `the group has its majority and no member accepts writes`,
	},
	{
		Name: "no-spare", Severity: event.Warning, Missing: MissingKeep, For: lasts(time.Minute),
		When: `quorum == "yes" and len(members) > 2 and tolerates < 1`,
		Text: `the group cannot lose another member`,
	},
	{
		Name: "lag", Each: perMember, Severity: event.Warning, For: lasts(30 * time.Second), Hold: lasts(10 * time.Second),
		Where: `member.state == "ONLINE"`, When: `member.lag() > 30`, Clear: `member.lag() < 10`,
		Text: `{member.name} is {int(member.lag())} s behind`,
	},
	{
		Name: "flow-control", Each: perMember, Severity: event.Warning, For: lasts(30 * time.Second), Hold: lasts(30 * time.Second),
		Where: `member.state == "ONLINE"`, When: `member.queue() > 25000`, Clear: `member.queue() < 5000`,
		Text: `{member.name} has {int(member.queue())} transactions waiting: flow control slows the group down`,
	},
	{
		Name: "conflicts", Each: perMember, Severity: event.Warning, For: lasts(2 * time.Minute), Hold: lasts(2 * time.Minute),
		Where: `member.state == "ONLINE"`,
		When:  `rate("perdure_member_conflicts_total", "5m", {"member": member.name}) > 1`,
		Clear: `rate("perdure_member_conflicts_total", "5m", {"member": member.name}) < 0.2`,
		Text:  `more than one transaction a second loses certification on {member.name}: several members write the same rows`,
	},
	{
		Name: "diverged", Severity: event.Critical, Missing: MissingKeep, When: `any(problems, .kind == "errant")`,
		Text: `{join(map(filter(problems, .kind == "errant"), .text), "; ")}`,
	},
	{
		Name: "members-differ", Severity: event.Critical, Missing: MissingOK, When: `total("perdure_consistency_differing_tables") > 0`,
		Text: `members do not hold the same data in {int(total("perdure_consistency_differing_tables"))} tables: see perdure consistency show`,
	},
	{
		Name: "two-groups", Severity: event.Critical, Missing: MissingKeep, When: `any(problems, .kind == "two-groups")`,
		Text: `{join(map(filter(problems, .kind == "two-groups"), .text), "; ")}`,
	},
	{
		Name: "zone-majority", Severity: event.Warning, Missing: MissingKeep, For: lasts(time.Minute), When: `any(problems, .kind == "zone-majority")`,
		Text: `{join(map(filter(problems, .kind == "zone-majority"), .text), "; ")}`,
	},
	{
		Name: "other-problem", Severity: event.Warning, Missing: MissingKeep, For: lasts(10 * time.Second),
		When: `any(problems, .kind not in ["errant", "two-groups", "zone-majority"])`,
		Text: `{join(map(filter(problems, .kind not in ["errant", "two-groups", "zone-majority"]), .text), "; ")}`,
	},
	{
		Name: "drift", Severity: event.Warning, For: lasts(time.Minute), When: `drift > 0`,
		Text: `{drift} settings differ between members or from what was asked for`,
	},
	{
		Name: "watcher", Severity: event.Critical, For: lasts(3 * time.Second), When: `view_age > 3`,
		Text: `nothing is known about the members since {int(view_age)} s: the watcher does not work`,
	},
	{
		Name: "maintenance-forgotten", Severity: event.Warning, When: `paused_for > 4 * 3600`,
		Text: `the automation has been paused for {int(paused_for / 3600)} hours`,
	},
	{
		Name: "change-stuck", Severity: event.Warning, When: `plan_age > 3600`,
		Text: `a change has been running for {int(plan_age / 60)} minutes`,
	},
	{
		Name: "disk", Severity: event.Warning, For: lasts(time.Minute), Hold: lasts(time.Minute),
		When: `lowest("perdure_disk_free_ratio") < 0.1`, Clear: `lowest("perdure_disk_free_ratio") > 0.12`,
		Text: `a disk of this node has {int(100 * lowest("perdure_disk_free_ratio"))} % left`,
	},
	{
		Name: "disk-full", Severity: event.Critical, For: lasts(5 * time.Second), Hold: lasts(30 * time.Second),
		When:  `lowest("perdure_disk_free_ratio") < 0.03 or lowest("perdure_disk_free_bytes") < 300e6`,
		Clear: `lowest("perdure_disk_free_ratio") > 0.05 and lowest("perdure_disk_free_bytes") > 500e6`,
		Text:  `a disk of this node has {int(lowest("perdure_disk_free_bytes") / 1e6)} MB left`,
	},
	{
		Name: "certificate", Severity: event.Warning, When: `lowest("perdure_certificate_expires_seconds") < 14 * 86400`,
		Text: `a certificate expires in {int(lowest("perdure_certificate_expires_seconds") / 86400)} days`,
	},
	{
		Name: "certificate-expired", Severity: event.Critical, When: `lowest("perdure_certificate_expires_seconds") < 86400`,
		Text: `a certificate expires in {int(lowest("perdure_certificate_expires_seconds") / 3600)} hours`,
	},
	{
		Name: "events-waiting", Severity: event.Critical, For: lasts(5 * time.Second), Hold: lasts(10 * time.Second),
		When: `metric("perdure_events_waiting_seconds") > 5 or rate("perdure_events_dropped_total", "1m") > 0`,
		Text: `events are not stored: {int(metric("perdure_events_waiting"))} wait, {int(metric("perdure_events_dropped_total"))} were dropped`,
	},
	{ // a node without a queue has nothing to say; one whose queue does not tell is an alarm
		Name: "queue-age", Severity: event.Warning, For: lasts(10 * time.Second), Hold: lasts(10 * time.Second),
		Where: `known("perdure_queue_accepted_writes_total")`,
		When:  `metric("perdure_queue_oldest_age_seconds") > 60`, Clear: `metric("perdure_queue_oldest_age_seconds") < 20`,
		Text: `the oldest queued write waits for {int(metric("perdure_queue_oldest_age_seconds"))} s`,
	},
	{
		Name: "queue-held-back", Severity: event.Critical, For: lasts(time.Minute), Hold: lasts(2 * time.Second),
		Where: `known("perdure_queue_accepted_writes_total")`, When: `metric("perdure_queue_held_back") > 0`,
		Text: `queued writes are accepted and none is applied: the queue is paused or halted`,
	},
	{ // without the database nobody can count them, and that has alarms of its own
		Name: "queue-dead-letters", Severity: event.Warning, Hold: lasts(5 * time.Second), Missing: MissingKeep,
		Where: `known("perdure_queue_accepted_writes_total")`, When: `metric("perdure_queue_dead_letters") > 0`,
		Text: `{int(metric("perdure_queue_dead_letters"))} queued writes were given up and wait for a decision`,
	},
	{
		Name: "queue-log", Severity: event.Critical, For: lasts(10 * time.Second), Hold: lasts(30 * time.Second),
		Where: `known("perdure_queue_accepted_writes_total")`,
		When:  `metric("perdure_queue_log_bytes") > 0.8 * metric("perdure_queue_log_limit_bytes")`,
		Clear: `metric("perdure_queue_log_bytes") < 0.7 * metric("perdure_queue_log_limit_bytes")`,
		Text:  `the log of the write queue holds {int(100 * metric("perdure_queue_log_bytes") / metric("perdure_queue_log_limit_bytes"))} % of what it may: then writes are refused`,
	},
	{
		Name: "delivery", Severity: event.Warning, For: lasts(time.Minute), Hold: lasts(10 * time.Second), Missing: MissingOK,
		When: `highest("perdure_deliveries_failing_seconds") > 300`,
		Text: `messages or hooks have been failing for {int(highest("perdure_deliveries_failing_seconds") / 60)} minutes`,
	},
}

func lasts(d time.Duration) *event.Duration { e := event.Duration(d); return &e }

func builtinNames() []string {
	var out []string
	for _, r := range Builtin {
		out = append(out, r.Name)
	}
	return out
}
