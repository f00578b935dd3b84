package watch

import (
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/topology"
)

// Still tells whether what an event said is true in a View that was made just
// now. An event that Views say nothing about is taken at its word. It reads
// nothing but its arguments.
func Still(v *topology.View, e event.Event) bool {
	m, there := v.Member(e.Member)
	away := m.State != topology.Online && m.State != topology.Recovering
	switch e.Kind {
	case event.MemberCrashed, event.MemberSuspect, event.MemberUnreachable, event.MemberExpelled,
		event.MemberIsolated, event.MemberLeft, event.MemberError, event.MemberDenied, event.MemberStopped:
		return there && away
	case event.MemberStarted:
		return there && m.Failure == topology.Answers
	case event.MemberRecovered, event.MemberJoined, event.MemberRejoined:
		return m.State == topology.Online
	case event.MemberJoining:
		return m.State == topology.Recovering
	case event.MemberReadOnly:
		return there && !m.Writable
	case event.MemberWritable:
		return m.Writable
	case event.MemberRemoved:
		return !there
	case event.MemberDiverged:
		return hasProblem(v, topology.Errant, e.Member)
	case event.GroupTwoGroups:
		return hasProblem(v, topology.TwoGroups, "")
	case event.GroupProblem:
		return hasProblem(v, e.Facts["problem"], "")
	case event.GroupQuorumLost, event.GroupQuorumUnsure:
		return v.Quorum != topology.HasQuorum
	case event.GroupQuorumRegained, event.GroupBootstrapped:
		return v.Quorum == topology.HasQuorum
	case event.GroupGone:
		return v.Quorum == topology.NoGroup
	case event.GroupModeSwitched:
		return string(v.Mode) == e.Facts["is"]
	case event.GroupPrimaryChanged:
		p, ok := v.Member(e.Facts["is"])
		return ok && p.Role == topology.Primary
	}
	return true
}

func hasProblem(v *topology.View, kind, member string) bool {
	for _, p := range v.Problems {
		if p.Kind != kind {
			continue
		}
		for _, name := range p.Members {
			if member == "" || name == member {
				return true
			}
		}
	}
	return false
}
