package api

// Advice is what the members' own counters say about how the group is used.
type Advice struct {
	Seconds  float64         `json:"seconds" doc:"How long the members were watched for it."`
	Findings []AdviceFinding `json:"findings" doc:"What to do, the most urgent first."`
	Tables   []TableConflict `json:"tables" doc:"Tables whose transactions lost to others, as far as sessions remember."`
	Largest  []Transaction   `json:"largest" doc:"The largest transactions of the newest binary log, of as much of it as was read."`
	Read     AdviceRead      `json:"read"`
	Members  []AdviceMember  `json:"members"`
}

// AdviceFinding is one thing to do.
type AdviceFinding struct {
	Kind     string `json:"kind" enum:"transaction-size,flow-control,conflicts,setting,unknown"`
	Severity string `json:"severity" enum:"info,warning"`
	Member   string `json:"member,omitempty"`
	Subject  string `json:"subject,omitempty" doc:"The table or setting it is about."`
	Text     string `json:"text"`
	SQL      string `json:"sql,omitempty" doc:"What would change it, for a human to run."`
}

// AdviceRead says which part of a binary log was read.
type AdviceRead struct {
	Member       string `json:"member,omitempty"`
	File         string `json:"file,omitempty"`
	Transactions int    `json:"transactions"`
	Bytes        int64  `json:"bytes"`
	Whole        bool   `json:"whole" doc:"The whole file was read, not only its beginning."`
}

// Transaction is one of the largest.
type Transaction struct {
	Bytes    int64    `json:"bytes" doc:"In the binary log, compressed if that is."`
	Events   int      `json:"events"`
	Tables   []string `json:"tables,omitempty"`
	Server   uint32   `json:"server" doc:"server_id of where it was committed."`
	Position int64    `json:"position"`
}

// TableConflict is a table whose transactions lost.
type TableConflict struct {
	Table     string   `json:"table"`
	Lost      int      `json:"lost" doc:"Transactions seen that lost certification or a deadlock."`
	Members   []string `json:"members" doc:"Where they had been sent to."`
	Statement string   `json:"statement" doc:"One of them, without its values."`
}

// AdviceMember is what one member counts.
type AdviceMember struct {
	Name         string            `json:"name"`
	Error        string            `json:"error,omitempty" doc:"Why it could not be asked."`
	Queue        int64             `json:"queue" doc:"Transactions of others it has not applied."`
	Checked      int64             `json:"checked" doc:"Transactions it certified, since it joined."`
	Conflicts    int64             `json:"conflicts" doc:"Of them, those that lost."`
	NewConflicts int64             `json:"new_conflicts" doc:"Of them, while it was watched."`
	Errors       map[string]int64  `json:"errors,omitempty" doc:"How often clients got an error that means a lost transaction, since the server started, by its number."`
	Average      int64             `json:"average_bytes" doc:"Size of a transaction in the binary log, on average."`
	Committed    int64             `json:"committed" doc:"Transactions in that average."`
	Spilled      int64             `json:"spilled" doc:"Transactions that did not fit into binlog_cache_size."`
	Cached       int64             `json:"cached" doc:"Transactions that used that cache."`
	Throttled    *Throttled        `json:"throttled,omitempty" doc:"Only where the server has the component that counts it."`
	Settings     map[string]string `json:"settings,omitempty"`
}

// Throttled is what flow control cost.
type Throttled struct {
	Times   int64   `json:"times"`
	Seconds float64 `json:"seconds"`
	Now     int64   `json:"now" doc:"Transactions that wait for it at this moment."`
}
