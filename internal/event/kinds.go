package event

import "strings"

// Kind says what happened, in two words: to what, and what.
type Kind string

// Kinds of event. What each means is in Kinds.
const (
	MemberStarted     Kind = "member.started"
	MemberStopped     Kind = "member.stopped"
	MemberCrashed     Kind = "member.crashed"
	MemberRestarted   Kind = "member.restarted"
	MemberSuspect     Kind = "member.suspect"
	MemberUnreachable Kind = "member.unreachable"
	MemberRecovered   Kind = "member.recovered"
	MemberExpelled    Kind = "member.expelled"
	MemberIsolated    Kind = "member.isolated"
	MemberLeft        Kind = "member.left"
	MemberError       Kind = "member.error"
	MemberDenied      Kind = "member.denied"
	MemberJoining     Kind = "member.joining"
	MemberJoined      Kind = "member.joined"
	MemberRejoined    Kind = "member.rejoined"
	MemberRebuilt     Kind = "member.rebuilt"
	MemberReadOnly    Kind = "member.read-only"
	MemberWritable    Kind = "member.writable"
	MemberLagging     Kind = "member.lagging"
	MemberCaughtUp    Kind = "member.caught-up"
	MemberFlowControl Kind = "member.flow-control"
	MemberFlowFree    Kind = "member.flow-free"
	MemberDiverged    Kind = "member.diverged"
	MemberReconciled  Kind = "member.reconciled"
	MemberUpgraded    Kind = "member.upgraded"
	MemberAdded       Kind = "member.added"
	MemberRemoved     Kind = "member.removed"

	GroupBootstrapped   Kind = "group.bootstrapped"
	GroupQuorumLost     Kind = "group.quorum-lost"
	GroupQuorumUnsure   Kind = "group.quorum-unsure"
	GroupQuorumRegained Kind = "group.quorum-regained"
	GroupGone           Kind = "group.gone"
	GroupModeSwitched   Kind = "group.mode-switched"
	GroupPrimaryChanged Kind = "group.primary-changed"
	GroupTwoGroups      Kind = "group.two-groups"
	GroupPoison         Kind = "group.poison-transaction"
	GroupProblem        Kind = "group.problem"
	GroupSolved         Kind = "group.solved"
	GroupSlowed         Kind = "group.slowed"
	GroupFullSpeed      Kind = "group.full-speed"

	ProxyStarted  Kind = "proxy.started"
	ProxyStopped  Kind = "proxy.stopped"
	ProxyDraining Kind = "proxy.draining"
	ProxyMoved    Kind = "proxy.moved"
	ProxyFenced   Kind = "proxy.fenced"
	ProxyRefusing Kind = "proxy.refusing"

	PlanStarted     Kind = "plan.started"
	PlanStepBegun   Kind = "plan.step-begun"
	PlanStepDone    Kind = "plan.step-done"
	PlanStepFailed  Kind = "plan.step-failed"
	PlanStepUndone  Kind = "plan.step-undone"
	PlanTakingBack  Kind = "plan.taking-back"
	PlanDone        Kind = "plan.done"
	PlanUndone      Kind = "plan.undone"
	PlanFailed      Kind = "plan.failed"
	PlanRefused     Kind = "plan.refused"
	HealingActs     Kind = "healing.acts"
	HealingAsks     Kind = "healing.asks"
	HealingAnswered Kind = "healing.answered"
	ClusterPaused   Kind = "cluster.paused"
	ClusterResumed  Kind = "cluster.resumed"
	DriftFound      Kind = "drift.found"
	DriftGone       Kind = "drift.gone"
	NodeStarted     Kind = "node.started"
	NodeStopping    Kind = "node.stopping"
	NodeLeads       Kind = "node.leads"
	NodeSilent      Kind = "node.silent"
	NodeBack        Kind = "node.back"
	NodeJoined      Kind = "node.joined"
	NodeRemoved     Kind = "node.removed"
	ControlLost     Kind = "control.lost"
	ControlRegained Kind = "control.regained"
	EventsDropped   Kind = "events.dropped"
	EventsMissed    Kind = "events.missed"
	AlarmFiring     Kind = "alarm.firing"
	AlarmNoData     Kind = "alarm.no-data"
	AlarmResolved   Kind = "alarm.resolved"
	AlarmReminder   Kind = "alarm.reminder"
	AlarmAcked      Kind = "alarm.acknowledged"
	NotifyFlapping  Kind = "notify.flapping"
	NotifyCalm      Kind = "notify.calm"
	NotifyDead      Kind = "notify.dead"
	NotifySilenced  Kind = "notify.silenced"
	NotifyTest      Kind = "notify.test"
	HookDone        Kind = "hook.done"
	HookFailed      Kind = "hook.failed"
	HookSkipped     Kind = "hook.skipped"
	HookDead        Kind = "hook.dead"
	AuditAction     Kind = "audit.action"
	AuditLogin      Kind = "audit.login"
	AuditSettings   Kind = "audit.settings"
	QueueDead       Kind = "queue.dead-letter"
	QueueStopped    Kind = "queue.stopped"
	QueueResumed    Kind = "queue.resumed"
	SiteLagging     Kind = "site.lagging"
	SiteCaughtUp    Kind = "site.caught-up"
	SiteLost        Kind = "site.lost"
	SiteSwitched    Kind = "site.switched"
	SiteFailedOver  Kind = "site.failed-over"
	BackupStarted   Kind = "backup.started"
	BackupDone      Kind = "backup.done"
	BackupFailed    Kind = "backup.failed"
	BackupExpired   Kind = "backup.expired"
	CopyDone        Kind = "copy.done"
	CopyFailed      Kind = "copy.failed"
	RestoreStarted  Kind = "restore.started"
	RestoreDone     Kind = "restore.done"
	RestoreFailed   Kind = "restore.failed"
	VerifyDone      Kind = "verify.done"
	VerifyFailed    Kind = "verify.failed"
	DrillDone       Kind = "drill.done"
	DrillFailed     Kind = "drill.failed"

	ConsistencyStarted Kind = "consistency.started"
	ConsistencyDiffers Kind = "consistency.differs"
	ConsistencyDone    Kind = "consistency.done"
	ConsistencyFailed  Kind = "consistency.failed"
	ConsistencyStopped Kind = "consistency.stopped"
	ScheduleBegan      Kind = "schedule.began"
	ScheduleMissed     Kind = "schedule.missed"
	ScheduleRefused    Kind = "schedule.refused"
	ScheduleFailed     Kind = "schedule.failed"
)

// Meaning is what a kind stands for.
type Meaning struct {
	Kind     Kind
	Severity Severity // unless the event says otherwise
	Text     string
	Ends     Kind // the kind this one is the good end of, if any
}

// Kinds is the taxonomy, in the order of the documentation.
var Kinds = []Meaning{
	{MemberStarted, Info, "A server that was down answers again.", MemberCrashed},
	{MemberStopped, Warning, "A server that was in no group stopped answering: it was shut down.", ""},
	{MemberCrashed, Critical, "A server went away while its group counted on it.", ""},
	{MemberRestarted, Warning, "A server answers with a younger uptime than before: it was restarted between two looks.", ""},
	{MemberSuspect, Warning, "A member does not answer us; its group still counts on it. It takes no traffic.", ""},
	{MemberUnreachable, Warning, "The other members cannot reach a member and will expel it.", ""},
	{MemberRecovered, Info, "A suspect or unreachable member answers again and never left its group.", MemberSuspect},
	{MemberExpelled, Warning, "The group threw a member out.", ""},
	{MemberIsolated, Critical, "A server believes to be in the group and the majority does not list it: its reads are stale.", ""},
	{MemberLeft, Warning, "A member left its group and still answers.", ""},
	{MemberError, Critical, "A member gave up with an error of replication.", ""},
	{MemberDenied, Warning, "A server answers and does not let us in.", ""},
	{MemberJoining, Info, "A server joined and fetches what it missed.", ""},
	{MemberJoined, Info, "A server is a member for the first time since it was added.", ""},
	{MemberRejoined, Info, "A member is back in its group.", MemberExpelled},
	{MemberRebuilt, Warning, "A member's data were replaced by a copy of another member's.", ""},
	{MemberReadOnly, Warning, "A member that accepted writes does not any more.", ""},
	{MemberWritable, Info, "A member accepts writes.", MemberReadOnly},
	{MemberLagging, Warning, "A member is behind its group by more than the limit.", ""},
	{MemberCaughtUp, Info, "A member that was behind has caught up.", MemberLagging},
	{MemberFlowControl, Warning, "A member has so many transactions waiting that the group is slowed down for it.", ""},
	{MemberFlowFree, Info, "A member does not slow the group down any more.", MemberFlowControl},
	{MemberDiverged, Critical, "A server has transactions that its group does not have.", ""},
	{MemberReconciled, Info, "A diverged server has nothing that its group lacks any more.", MemberDiverged},
	{MemberUpgraded, Info, "A server answers with another version than before.", ""},
	{MemberAdded, Info, "A server became part of the cluster.", ""},
	{MemberRemoved, Info, "A server is not part of the cluster any more.", ""},

	{GroupBootstrapped, Info, "A group exists where there was none.", GroupGone},
	{GroupQuorumLost, Critical, "The group lost its majority: writes block.", ""},
	{GroupQuorumUnsure, Critical, "Too few members answer to tell whether the group can write.", ""},
	{GroupQuorumRegained, Info, "The group can commit again.", GroupQuorumLost},
	{GroupGone, Critical, "No server is in a group any more.", ""},
	{GroupModeSwitched, Info, "The group changed between multi-primary and single-primary.", ""},
	{GroupPrimaryChanged, Warning, "Another member is the primary of a single-primary group.", ""},
	{GroupTwoGroups, Critical, "Two groups with one name exist, and each commits by itself.", ""},
	{GroupPoison, Critical, "Several members gave up at the same transaction: it would stop every member that applies it.", ""},
	{GroupProblem, Warning, "Something about the members a human should know: another group, a shared server_uuid, a stranger, a zone with the majority.", ""},
	{GroupSolved, Info, "A problem is gone.", GroupProblem},
	{GroupSlowed, Warning, "Writers are slowed down for a while, so that a member that joins catches up.", ""},
	{GroupFullSpeed, Info, "Writers are not slowed down any more.", GroupSlowed},

	{ProxyStarted, Info, "A proxy accepts clients.", ProxyStopped},
	{ProxyStopped, Warning, "A proxy accepts no clients any more.", ""},
	{ProxyDraining, Info, "A proxy finishes its sessions and takes no new ones.", ""},
	{ProxyMoved, Info, "A proxy moved or cut sessions because a member took no more traffic.", ""},
	{ProxyFenced, Critical, "A proxy stopped writes by itself: its right to write ran out.", ""},
	{ProxyRefusing, Critical, "A proxy knows no member to send clients to.", ""},

	{PlanStarted, Info, "A change began.", ""},
	{PlanStepBegun, Info, "A step of a change began.", ""},
	{PlanStepDone, Info, "A step of a change is done.", ""},
	{PlanStepFailed, Warning, "A step failed, or could not be taken back.", ""},
	{PlanStepUndone, Info, "A step was taken back.", ""},
	{PlanTakingBack, Warning, "A change failed and is being taken back.", ""},
	{PlanDone, Info, "A change is done.", ""},
	{PlanUndone, Warning, "A change failed and everything is as it was.", ""},
	{PlanFailed, Critical, "A change failed and not all of it could be taken back.", ""},
	{PlanRefused, Warning, "A safety rule stopped a change; everything is as it was.", ""},
	{HealingActs, Info, "Healing decided on a remedy; facts say which, why, and under which plan.", ""},
	{HealingAsks, Critical, "Healing cannot go on without a human; the text says what was found and what to do.", ""},
	{HealingAnswered, Info, "Healing needs no human any more.", HealingAsks},
	{ClusterPaused, Warning, "Somebody told the automation to keep its hands off.", ""},
	{ClusterResumed, Info, "The automation acts again.", ClusterPaused},
	{DriftFound, Warning, "A setting differs between members, or from what was asked for.", ""},
	{DriftGone, Info, "A setting is as it should be again.", DriftFound},
	{NodeStarted, Info, "A node runs.", NodeStopping},
	{NodeStopping, Info, "A node was told to stop.", ""},
	{NodeLeads, Info, "A node took over: it acts from now on.", ""},
	{NodeSilent, Warning, "A node does not answer the one that acts.", ""},
	{NodeBack, Info, "A node answers again.", NodeSilent},
	{NodeJoined, Info, "A new node was let in.", ""},
	{NodeRemoved, Info, "A node was taken out of the cluster.", ""},
	{ControlLost, Critical, "The nodes have no majority: nothing heals and nothing can be changed; queries run.", ""},
	{ControlRegained, Info, "The nodes have a majority again.", ControlLost},

	{EventsDropped, Critical, "Events were lost because their store did not take them in time.", ""},
	{EventsMissed, Critical, "Events were removed by age or size before the rules had seen them.", ""},
	{AlarmFiring, Warning, "A condition held for as long as its rule says. The severity is the rule's.", ""},
	{AlarmNoData, Warning, "The data of a condition are missing for as long as its rule says. The severity is the rule's.", ""},
	{AlarmResolved, Info, "An alarm is over.", AlarmFiring},
	{AlarmReminder, Warning, "An alarm is still on and nobody acknowledged it.", ""},
	{AlarmAcked, Info, "Somebody takes care of an alarm.", ""},
	{NotifyFlapping, Warning, "Something changes so often that its messages are held back.", ""},
	{NotifyCalm, Info, "What was held back has calmed down; the event counts what was not sent.", NotifyFlapping},
	{NotifyDead, Warning, "A message was given up.", ""},
	{NotifySilenced, Info, "Somebody silenced messages for a time, or ended that.", ""},
	{NotifyTest, Info, "A test message: nothing happened.", ""},
	{HookDone, Info, "A hook ran.", ""},
	{HookFailed, Warning, "A run of a hook failed and will be tried again.", ""},
	{HookSkipped, Info, "A hook was not run: what called for it is not true any more.", ""},
	{HookDead, Critical, "A hook was given up.", ""},
	{AuditAction, Info, "Somebody asked for a change.", ""},
	{AuditLogin, Info, "Somebody called with a token, or tried to.", ""},
	{AuditSettings, Info, "Settings were changed.", ""},

	{QueueDead, Warning, "A queued write was given up and lies with the dead letters.", ""},
	{QueueStopped, Critical, "The queue does not apply writes.", ""},
	{QueueResumed, Info, "The queue applies writes again.", QueueStopped},
	{SiteLagging, Warning, "A remote site is behind by more than the limit.", ""},
	{SiteCaughtUp, Info, "A remote site has caught up.", SiteLagging},
	{SiteLost, Critical, "A site is gone.", ""},
	{SiteSwitched, Info, "A planned move of the writable site is done.", ""},
	{SiteFailedOver, Critical, "An unplanned move of the writable site is done; the event says what was lost.", ""},
	{BackupStarted, Info, "A backup began.", ""},
	{BackupDone, Info, "A backup is stored.", BackupFailed},
	{BackupFailed, Critical, "A backup failed.", ""},
	{BackupExpired, Info, "A backup was removed as its retention says.", ""},
	{CopyDone, Info, "A backup was copied to another vault.", CopyFailed},
	{CopyFailed, Critical, "A backup could not be copied to another vault.", ""},
	{RestoreStarted, Warning, "A restore began.", ""},
	{RestoreDone, Warning, "A restore is done.", ""},
	{RestoreFailed, Critical, "A restore failed.", ""},
	{VerifyDone, Info, "A backup was proven to restore.", VerifyFailed},
	{VerifyFailed, Critical, "A backup does not restore.", ""},
	{DrillDone, Info, "A drill passed.", DrillFailed},
	{DrillFailed, Critical, "A drill failed.", ""},

	{ConsistencyStarted, Info, "A consistency audit began to compare what the members hold.", ""},
	{ConsistencyDiffers, Critical, "Members do not hold the same in a table, or not the same transactions. Told once per table and audit.", ""},
	{ConsistencyDone, Info, "A consistency audit came to its end; the event says what was compared and what was found.", ConsistencyFailed},
	{ConsistencyFailed, Warning, "A consistency audit was given up before its end.", ""},
	{ConsistencyStopped, Info, "Somebody stopped a consistency audit.", ""},
	{ScheduleBegan, Info, "Something began as scheduled.", ""},
	{ScheduleMissed, Warning, "No node could act at a scheduled time, or nobody knows whether one did; it will not be done.", ""},
	{ScheduleRefused, Warning, "Something scheduled did not begin: a plan was running, or a safety rule said no.", ""},
	{ScheduleFailed, Warning, "Something scheduled could not be begun.", ""},
}

var meanings = func() map[Kind]Meaning {
	m := make(map[Kind]Meaning, len(Kinds))
	for _, k := range Kinds {
		m[k.Kind] = k
	}
	return m
}()

// Known tells whether the kind is in the taxonomy.
func (k Kind) Known() bool { _, ok := meanings[k]; return ok }

// Meaning is what the taxonomy says about the kind.
func (k Kind) Meaning() Meaning { return meanings[k] }

// Severity is the kind's usual severity.
func (k Kind) Severity() Severity {
	if m, ok := meanings[k]; ok {
		return m.Severity
	}
	return Info
}

// Topic is the word before the dot.
func (k Kind) Topic() string {
	t, _, _ := strings.Cut(string(k), ".")
	return t
}
