package group

import (
	"regexp"
	"strings"
)

// Cause is why a member does not come back, by name.
type Cause string

// Causes, as operators know them.
const (
	Unclear     Cause = ""
	Diverged    Cause = "errant transactions" // it has what the group has not
	Differs     Cause = "different data"      // it cannot apply what the others applied
	Purged      Cause = "purged binary logs"  // no donor has all that it misses
	Credentials Cause = "credentials"
	Disk        Cause = "disk full"
	OldVersion  Cause = "version"
	Incarnation Cause = "old incarnation" // the group still lists the process that died
	Settings    Cause = "settings"
	Stack       Cause = "communication stack"
	Allowlist   Cause = "allowlist"
	Certificate Cause = "TLS"
)

// symptoms are what servers write about each cause, to their error log or to
// the tables of their channels. The order matters: a full disk makes an applier
// fail, and not the other way round.
var symptoms = []struct {
	cause Cause
	said  *regexp.Regexp
}{
	{Disk, regexp.MustCompile(`(?i)disk is full|no space left on device|errno: ?28\b|error 28\b|OS errno 28|table '[^']*' is full|record file is full`)},
	{Incarnation, regexp.MustCompile(`(?i)old incarnation`)},
	{Diverged, regexp.MustCompile(`(?i)more executed transactions than|transactions? (that )?the group does not have|transactions not present in the group`)},
	{OldVersion, regexp.MustCompile(`(?i)member version is (incompatible|lower)|version is lower than|lower major version|not compatible with the (group's )?(lowest|highest|communication protocol)`)},
	{Credentials, regexp.MustCompile(`(?i)access denied for user|empty username|invalid \(?empty\)? username|authentication requires secure connection|account is locked|password has expired`)},
	{Purged, regexp.MustCompile(`(?i)purged required|purged binary logs containing GTIDs|binary logs? containing GTIDs that the (replica|slave) requires|binary logs of \S+ no longer have|ER_(SOURCE|MASTER)_HAS_PURGED`)},
	{Stack, regexp.MustCompile(`(?i)communication[_ ]stack`)},
	{Settings, regexp.MustCompile(`(?i)configuration is not compatible with the group|configuration is incompatible|different value for|block size .* (is different|distinct)|lower_case_table_names .*(is different|distinct)|member option|configured with (a )?(wrong|invalid)|group_replication_\w+ (option|value) .*(incompatible|different|invalid|not valid)|is not a valid IP|The group_replication_\w+ .*(mandatory|not valid)|server_id .*(conflict|duplicate)`)},
	{Allowlist, regexp.MustCompile(`(?i)not in the IP (allowlist|whitelist)|allowlist`)},
	{Certificate, regexp.MustCompile(`(?i)SSL (error|connection error|configuration|initialization)|certificate verify failed|tls(v1)? alert`)},
	{Differs, regexp.MustCompile(`(?i)(could not|cannot) execute .* event|error executing row event|HA_ERR_(FOUND_DUPP_KEY|KEY_NOT_FOUND)|duplicate entry|duplicate column name|table '[^']*' already exists|table '[^']*' doesn't exist|can't find record in|unknown (table|column|database)|error '[^']*' on query|fatal error during execution on the applier`)},
}

// diagnose names the cause that what a server said stands for.
func diagnose(said ...string) Cause {
	text := strings.Join(said, "; ")
	for _, s := range symptoms {
		if s.said.MatchString(text) {
			return s.cause
		}
	}
	return Unclear
}

// rebuilds tells whether a copy of another member's data removes the cause,
// where bringing the member back as it is cannot.
func (c Cause) rebuilds() bool { return c == Diverged || c == Differs || c == Purged }

// advice is what a human does about a cause that healing could not remove.
func (c Cause) advice() string {
	switch c {
	case Disk:
		return "Make room on its disk, then restart mysqld there: healing tries again"
	case Credentials:
		return "See whether the group's accounts perdure_recovery_N exist and the servers let them in"
	case OldVersion:
		return "Install the version of the other members there, then restart mysqld"
	case Settings, Stack:
		return "`perdure check` names the settings that differ; correct them in its option file, then restart mysqld"
	case Allowlist:
		return "Add its address to group.allowlist in perdure.yaml, then `perdure apply`"
	case Certificate:
		return "See whether its certificate is valid and all members trust its authority"
	case Diverged, Differs, Purged:
		return "`perdure member rebuild NAME` replaces its data with a copy"
	case Incarnation:
		return "Wait until the group expelled the process that died"
	}
	return "Remove the cause and restart mysqld there: healing tries again. Or: `perdure member rejoin NAME`"
}
