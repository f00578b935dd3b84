package api

import "time"

// Token is a token as the API shows it.
type Token struct {
	Name       string    `json:"name" doc:"Lower-case letters, digits, dots, dashes, underscores."`
	Role       string    `json:"role" enum:"writer,viewer,operator,admin"`
	Operations []string  `json:"operations,omitempty" doc:"For writers: the write operations it may use. Default: all."`
	SQL        bool      `json:"sql,omitempty" doc:"For writers: it may hand in statements of its own."`
	Rate       int       `json:"rate,omitempty" minimum:"0" doc:"For writers: writes a second. Default: no limit."`
	Only       []string  `json:"only,omitempty" doc:"Parts of the API it may use, such as queue or events: the word after /v1/. Default: all that its role may."`
	Expires    time.Time `json:"expires,omitzero"`
	Made       time.Time `json:"made,omitzero"`
	By         string    `json:"by,omitempty"`
	Secret     string    `json:"secret,omitempty" doc:"Only in the answer that made it."`
}

// AuditEntry is one entry of the audit log.
type AuditEntry struct {
	Number int64     `json:"number"`
	At     time.Time `json:"at"`
	Who    string    `json:"who"`
	From   string    `json:"from"`
	Did    string    `json:"did"`
	On     string    `json:"on,omitempty"`
	Result string    `json:"result"`
	Before string    `json:"before"`
	Hash   string    `json:"hash"`
}

// AuditVerified is the answer to "was the audit log tampered with?".
type AuditVerified struct {
	Entries int    `json:"entries"`
	Newest  string `json:"newest" doc:"Hash of the newest entry; keep it elsewhere to notice a rewritten log."`
	Problem string `json:"problem,omitempty" doc:"What is wrong with the first bad entry."`
}
